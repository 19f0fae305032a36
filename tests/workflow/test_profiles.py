"""Profiles resolve as typed, and every rule asks for what a cluster wants to know."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.fork_server import forking_python
from tests.workflow.conftest import TINY

LOCAL = {"structures_fetch", "structures_phantom"}  # localrules of structures.smk
STANDIN = ROOT / "tests/workflow/conda_offline/root/bin"


@pytest.fixture
def conda_on_path():
    return {
        "PATH": f"{STANDIN}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CONDA_STANDIN_PYTHON": sys.executable,
    }


def test_profile_slurm_resolves_from_the_projects_root(project, conda_on_path):
    done = subprocess.run(
        [forking_python(), "-m", "snakemake", "--profile", "slurm", "-n", *TINY],
        cwd=project.folder,
        env={**os.environ, **conda_on_path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    jobs = re.findall(r"^rule (\w+):.*?(?=^\[|^rule |\Z)", said, re.MULTILINE | re.DOTALL)
    assert "translation_train" in jobs
    training = said.split("rule translation_train:")[1].split("Shell command")[0]
    for word in ("gpu=1", "mem_mb=16000", "runtime=720"):
        assert word in training, training


def test_every_rule_has_log_benchmark_threads_resources_and_an_environment():
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name = rule.split(":")[0]
            if "shell:" not in rule:
                continue  # a target
            for part in ("log:", "benchmark:", "threads:", "resources:", "conda:", "code=code("):
                assert part in rule, f"{path.name}: {name} lacks {part}"
            assert rule.count("step(") == 1, f"{name} calls more than one command"


def test_the_profile_and_the_rules_share_the_work():
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert profile["retries"] > 0
    names = set()
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"^(?=rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            name = re.match(r"rule (\w+)", rule)[1]
            names.add(name)
            assert "retries:" not in rule, f"{name}: retries belong to the profile"
            for key in ("mem_mb", "runtime") if "resources:" in rule else ():
                assert f"{key}=more_each_attempt(" in rule, f"{name}: {key}"
    assert {entry.split("=")[0] for entry in profile["groups"]} <= names
    assert set(profile["set-resources"]) <= names
    assert all(asked == {"gpu": 1} for asked in profile["set-resources"].values())
    assert names >= LOCAL


def test_the_container_recipe_is_what_snakemake_prints(project, conda_on_path):
    done = subprocess.run(
        [forking_python(), "-m", "snakemake", "--containerize", "--cores", "1"],
        cwd=project.folder,
        env={**os.environ, **conda_on_path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    recipe = (ROOT / "envs/Dockerfile").read_text()
    assert recipe == done.stdout, "run: snakemake --containerize --cores 1 > envs/Dockerfile"
    # the label by which Snakemake knows whether an image is made for the environments at hand
    assert "conda_env_hash" in recipe
    named = project.snakemake("-n", "-F", *TINY, CRYOETGAN_CONTAINER="docker://no/such-image")
    assert "report_build" in named


def test_each_stage_has_its_environment():
    from cryoetgan.cli import STAGES

    for stage in [*STAGES, "eman2"]:
        assert (ROOT / "envs" / f"{stage}.yaml").exists(), stage


@pytest.mark.parametrize(("name", "classes"), [("se1", 4), ("se2", 7), ("czii", 6)])
def test_the_papers_experiments_and_their_stand_in_resolve(project, tmp_path, name, classes):
    (tmp_path / "particles.star").touch()
    config = ("--configfile", f"config/{name}.yaml")
    said = project.snakemake("-n", "-p", *config, CRYOETGAN_SE1=str(tmp_path))
    engine = "builtin" if name == "czii" else "eman2"
    made = re.findall(rf"densities simulate .*--engine={engine}", said)
    assert len(made) == classes - (name == "se1")  # its membrane is no structure
    assert "--preset paper" in said or "--preset=paper" in said
    assert "--network=cb3d" in said


def test_what_a_class_says_of_its_atoms_reaches_its_density(project):
    table = project.folder / "own classes.tsv"
    table.write_text(
        "class\tsource\tassembly\tmodel\tcomponent\n"
        "a\tphantom:proteasome\tnone\tall\t2\nb\tphantom:ribosome\t\t\t\n"
    )
    said = project.snakemake(
        "-n", "-F", "-p", *TINY, "--until", "densities_simulate", "--config",
        f"structures={{table: {table}}}", "densities={ligands: false, hydrogens: true}",
    )  # fmt: skip
    commands = {
        match[1]: match[0]
        for match in re.finditer(r"cryoetgan densities simulate \S+/(\w+)\.cif .*", said)
    }
    assert {"--assembly=none", "--model=all", "--component=2"} <= set(commands["a"].split())
    assert "--component" not in commands["b"]
    for command in commands.values():
        assert {"--no-ligands", "--hydrogens"} <= set(command.split())
