"""The command validate finds damaged and changed files."""

import numpy as np
import pandas as pd

from cryoetgan.io.files import provenance, sidecar, write_json
from cryoetgan.io.volume_set import write_volume_set
from tests.conftest import refused


def test_validate_finds_each_planted_corruption(cryoetgan, tmp_path):
    folder = tmp_path / "results"
    star = folder / "set.star"
    table = pd.DataFrame({"cryoetganClass": ["a", "b"]})
    write_volume_set(star, np.ones((2, 8, 8, 8), np.float32), table, 10.0)
    write_json(sidecar(star), {"provenance": provenance("test")})
    (folder / "x.json").write_text("{}")
    assert "no problems" in cryoetgan("validate", folder).stdout
    whole = {path: path.read_bytes() for path in folder.iterdir()}

    def spoil(name, change):
        for path, content in whole.items():
            path.write_bytes(content)
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
        refused(cryoetgan("validate", folder, code=2), str(folder))

    spoil("x.json", lambda text: text[:-1])
    spoil("set.star", lambda text: b"\n".join(text.splitlines()[:-1]) + b"\n")
    spoil("set.mrcs", lambda data: data[:-4])
    spoil("set.mrcs", lambda data: data[:-4] + np.float32("nan").tobytes())
    spoil("set.star.json", lambda text: b"")
    for path, content in whole.items():
        path.write_bytes(content)
    (folder / ".set.12345678.part.star").write_text("half")
    refused(cryoetgan("validate", folder, code=2), "1 of")
