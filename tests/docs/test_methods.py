"""The table of equations in docs/methods.md agrees with the tags in the docstrings."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "methods.md"
PACKAGE = ROOT / "cryoetgan"
PART = r"(?:eq\. \d+|section \d+(?:\.\d+)*|Table \d)"
TAG = re.compile(rf"Paper, ({PART}(?:(?:,| and| to) {PART})*)")
NAME = re.compile(r"`(cryoetgan\.[\w.]+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def table() -> list[list[str]]:
    """Return the rows of the page's first table: paper, subject, function, test."""
    section = PAGE.read_text().split("## Where each equation is")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def parts(text: str) -> set[str]:
    """Return the equations, sections and tables that a text names."""
    return set(re.findall(PART, text))


def tags(text: str | None) -> set[str]:
    """Return the parts of the paper that a docstring cites in the searchable form."""
    return {part for found in TAG.findall(text or "") for part in parts(found)}


def docstrings(name: str) -> str:
    """Return the docstrings of a function, class, method or constant, and of its module."""
    words = name.split(".")
    for count in range(len(words), 0, -1):
        try:
            found: object = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        texts = [found.__doc__]
        for word in words[count:]:
            found = getattr(found, word)
        if inspect.isroutine(found) or inspect.isclass(found):
            texts.append(found.__doc__)
        return "\n".join(text or "" for text in texts)
    raise ModuleNotFoundError(name)


def citations() -> list[tuple[str, str]]:
    """Return (dotted name, part of the paper) of every tagged function, class and module."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [(name, part) for part in tags(ast.get_docstring(tree))]
        found += cited_below(tree, name)
    return found


def cited_below(node: ast.AST, prefix: str) -> list[tuple[str, str]]:
    """Return (dotted name, part) of the functions and classes in a module or class."""
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = f"{prefix}.{child.name}"
            found += [(name, part) for part in tags(ast.get_docstring(child))]
            found += cited_below(child, name)
    return found


def test_every_equation_and_table_has_a_row():
    named = set.union(*(parts(row[0]) for row in table()))
    wanted = {f"eq. {number}" for number in range(1, 13)} | {"section 2.7", "section 3.4"}
    assert wanted | {"Table 2", "Table 3", "Table 4"} <= named


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_functions_of_a_row_exist_and_cite_the_paper(row):
    names = NAME.findall(row[2])
    assert names, row
    cited = {name: tags(docstrings(name)) & parts(row[0]) for name in names}
    assert all(cited.values()), f"without a citation of {row[0]}: {cited}"
    assert set.union(*cited.values()) == parts(row[0])


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_tests_of_a_row_exist(row):
    tests = TEST.findall(row[3])
    assert tests, row
    for path, name in tests:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_every_citation_in_the_code_is_in_the_table():
    rows = [(parts(row[0]), NAME.findall(row[2])) for row in table()]
    missing = [
        f"{name} cites {part}"
        for name, part in citations()
        if not any(
            part in named and any(f"{one}.".startswith(f"{name}.") for one in names)
            for named, names in rows
        )
    ]
    assert missing == []
