"""The documentation's site builds without a warning, and its links lead somewhere."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cryoetgan
from tests.docs.links import markdown_problems, site_problems

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_site_builds_and_its_links_lead_somewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(site_problems(tmp_path / "site")) == []


def test_links_between_files_of_the_repository_lead_somewhere():
    assert list(markdown_problems(ROOT)) == []


def test_every_module_is_in_the_api_reference():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    listed = set(re.findall(r"^::: (\S+)", pages, re.M))
    modules = [module.name for module in pkgutil.iter_modules(cryoetgan.__path__, "cryoetgan.")]
    assert [name for name in modules if name not in listed and "__main__" not in name] == []
