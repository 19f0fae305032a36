"""The code that a stage consists of, by its imports."""

import ast
import json
import subprocess

from cryoetgan.cli import STAGES
from cryoetgan.code_hash import UNTRACKED, code_files, imported
from tests.conftest import ROOT
from tests.fork_server import forking_python

# in a process that has the libraries but no module of the package, one fork per stage
LOAD = """
import importlib, json, os, sys
for stage, modules in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        for name in modules:
            importlib.import_module(name)
        found = [name for name in sys.modules if name.startswith("cryoetgan.")]
        print(json.dumps([stage, found]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, stage
"""


def test_the_code_of_a_stage_is_all_that_its_modules_import():
    """All modules of the package that a stage loads at run time are in its list."""
    files = {stage: code_files(ROOT / "cryoetgan", stage) for stage in STAGES}
    modules = {
        stage: [
            "cryoetgan." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for name in names
            if name.startswith(f"{stage}/") and name.endswith(".py")
        ]
        for stage, names in files.items()
    }
    done = subprocess.run(
        [forking_python(), "-c", LOAD, json.dumps(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = dict(map(json.loads, done.stdout.splitlines()))
    assert set(loaded) == set(STAGES)
    for stage, found in loaded.items():
        assert set(modules[stage]) <= set(found)
        for module in found:
            path = module.removeprefix("cryoetgan.").replace(".", "/")
            if path.split("/")[0] in UNTRACKED:
                continue
            named = {f"{path}.py", f"{path}/__init__.py"}
            assert named & set(files[stage]), f"{stage} misses {module}"
    # other stages are not in the list: an edit there must not rerun this stage
    assert not [name for name in files["structures"] if name.startswith("translation")]


def test_imports_are_those_of_the_syntax_tree():
    """The pattern of imports knows every form that the package has, functions included."""
    package = ROOT / "cryoetgan"
    for path in sorted(package.rglob("*.py")):
        name, wanted = path.relative_to(package).as_posix(), set()
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                wanted |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        modules = [module.split(".")[1:] for module in wanted if module.startswith("cryoetgan.")]
        files = {f"{'/'.join(parts)}.py" for parts in modules if parts[0] not in UNTRACKED}
        assert {file for file in files if (package / file).exists()} <= set(imported(package, name))


def test_imports_are_found_in_every_kind_of_block(tmp_path):
    places = {
        "plain": "from cryoetgan import plain",
        "several": "from cryoetgan.many import (\n    one,  # (first)\n    several,\n)",
        "function": "def f():\n    class C:\n        import cryoetgan.function",
        "attempt": "try:\n    pass\nexcept OSError:\n    import cryoetgan.attempt",
        "finally_": "try:\n    pass\nfinally:\n    import cryoetgan.finally_",
        "otherwise": "if 1:\n    pass\nelse:\n    with x:\n        import cryoetgan.otherwise",
        "case": "match x:\n    case 1:\n        for y in x:\n            import cryoetgan.case",
    }
    package = tmp_path / "cryoetgan"
    (package / "stage").mkdir(parents=True)
    (package / "many").mkdir()
    (package / "stage" / "all.py").write_text("\n".join(places.values()))
    for name in places:
        (package / f"{name}.py").write_text("")
    (package / "many" / "several.py").write_text("")
    (package / "several.py").unlink()
    wanted = {f"{name}.py" for name in places} - {"several.py"} | {"many/several.py"}
    assert set(code_files(package, "stage")) == {"stage/all.py", *wanted}
