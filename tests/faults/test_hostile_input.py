"""Names, archives and tables that were made to do harm."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.export.folder import member
from cryoetgan.io.volume_set import write_volume_set
from tests.conftest import refused


@pytest.mark.parametrize("form", ["relion", "plain", "copick"])
@pytest.mark.parametrize("column", ["cryoetganClass", "rlnTomoName"])
def test_no_name_of_a_set_leads_out_of_the_export(cryoetgan, tmp_path, form, column):
    table = pd.DataFrame({"cryoetganClass": ["a"], "rlnTomoName": ["t"]})
    table[column] = "../../../out"
    write_volume_set(tmp_path / "bad.star", np.ones((1, 8, 8, 8), np.float32), table, 10.0)
    refused(cryoetgan("export", form, "bad.star", "-o", "deep/export", code=2), "out", column)
    assert not [path for path in tmp_path.rglob("*") if path.stem not in ("bad", "deep")]


@pytest.mark.parametrize("name", ["../x.mrc", "/x.mrc", "a/../../x", "a\nb.mrc", ""])
def test_a_member_lies_in_the_export(tmp_path, name):
    assert member(tmp_path, "volumes/a.mrc") == tmp_path / "volumes/a.mrc"
    with pytest.raises(UserError):
        member(tmp_path, name)
