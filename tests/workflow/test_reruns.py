"""What the plan says about every key is what Snakemake does on a finished run."""

import json
import subprocess
import sys

import pytest
import yaml

from cryoetgan.config import load
from cryoetgan.setup.edits import TABLES, edit, keys
from tests.workflow.conftest import TINY

PROGRAM = """
import json, sys
from pathlib import Path
from cryoetgan.config import load
from cryoetgan.setup.edits import edit
from cryoetgan.setup.plans import edited, plan, rules, with_followers
folder, given, *wanted = sys.argv[1:]
folder = Path(folder)
# as Snakemake reads them: the default first
config = load(folder / "config/config.yaml", Path(given))
def jobs(content):
    return plan(folder / "workflow/Snakefile", folder, content)
base = jobs(config.model_dump(mode="json"))
after = {key: jobs(edit(config, key)) for key in wanted}
found = {key: rules(with_followers(edited(base, now), now), now) for key, now in after.items()}
print(json.dumps({key: sorted(names) for key, names in found.items()}))
"""
FILES = {"densities.prior", "particles.curation"}
"""Keys that name a file or folder, which this run has none of."""


@pytest.mark.slow
def test_every_row_of_the_table_is_what_a_dry_run_says(tiny_run, tmp_path):
    project, _ = tiny_run
    config = load(project.folder / "config/config.yaml", project.folder / TINY[1])
    wanted = [key for key in keys() if key not in TABLES | FILES]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, project.folder, project.folder / TINY[1], *wanted],
        capture_output=True,
        text=True,
        cwd=project.folder,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wrong = {}
    for key, plan in json.loads(done.stdout).items():
        path = tmp_path / "edited.yaml"
        path.write_text(yaml.safe_dump(edit(config, key)))
        runs = project.planned("--configfile", str(path))
        if runs != set(plan):
            wrong[key] = (sorted(runs), plan)
    assert not wrong, wrong
