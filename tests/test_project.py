"""Files around the package agree with each other: versions, make targets, tools, templates."""

import re
import tomllib

import pytest
import yaml

from cryoetgan import __version__
from tests.conftest import LONGEST, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
PINS = (ROOT / "constraints.txt").read_text().splitlines()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_all_files_give_one_version_and_one_address():
    citation = read("CITATION.cff")
    assert citation["version"] == __version__
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    changelog = re.search(r"^## \[([\d.]+)\] - (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert changelog.groups() == (__version__, citation["date-released"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_make(path):
    content = yaml.safe_load(path.read_text())
    steps = [step for job in content["jobs"].values() for step in job["steps"]]
    called = re.findall(r"make ([a-z-]+)", " ".join(step.get("run", "") for step in steps))
    assert called
    assert set(called) <= TARGETS
    # pinned to a version, and no permission but reading unless a job asks for it
    assert all("@" in step["uses"] for step in steps if "uses" in step)
    assert content["permissions"] == {"contents": "read"}


def test_make_help_names_all_targets():
    described = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)[1].split())
    assert described == phony == TARGETS


def test_the_longest_test_files_exist():
    assert all((ROOT / "tests" / name).exists() for name in LONGEST)


def test_hooks_and_checks_use_tools_of_the_environment():
    extra = " ".join(PROJECT["optional-dependencies"]["dev"] + PROJECT["dependencies"])
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    tools = {hook["entry"].split()[0] for hook in hooks} - {".venv/bin/python"}
    assert {repo["repo"] for repo in read(".pre-commit-config.yaml")["repos"]} == {"local"}
    for tool in tools:
        name = tool.removeprefix(".venv/bin/")
        assert name in extra
        assert f"$(BIN)/{name}" in MAKEFILE, "hooks run the tools of make check"


def test_every_development_tool_is_pinned():
    pinned = {line.split("==")[0].lower() for line in PINS}
    for requirement in PROJECT["optional-dependencies"]["dev"]:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)[0].lower()
        assert (
            name == "cryoetgan" or {name, name.replace("-", "_"), name.replace("_", "-")} & pinned
        )


def test_templates_and_catalogue_entry_are_valid():
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        content = yaml.safe_load(path.read_text())
        assert path.name == "config.yml" or {"name", "description", "body"} <= set(content)
    usage = read(".snakemake-workflow-catalog.yml")["usage"]
    assert usage["software-stack-deployment"]["conda"]
    assert usage["report"]
    assert (ROOT / "cryoetgan/py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]
