"""Commands, options and config keys that the documentation names exist."""

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cryoetgan import cli
from cryoetgan.config import Config

ROOT = Path(__file__).resolve().parents[2]
DIARY = "experiments.md"
"""It reports on commands and keys of the past."""
PAGES = sorted({ROOT / "README.md", *ROOT.glob("docs/**/*.md")} - {*ROOT.glob(f"docs/**/{DIARY}")})
COMMAND = re.compile(r"(?:^|`|; |&& |no )(cryoetgan [a-z][^`\n#]*)", re.M)
KEY = re.compile(rf"`((?:{'|'.join(Config.model_fields)})(?:\.\w+)+)(?:`|[:=]| )")
FILES = (".tsv", ".yaml", ".smk", ".py", ".json")
README_WORDS = 1000


@functools.cache
def commands() -> Any:
    """Return the command tree."""
    return cli.build()


def problems(line: str) -> Iterator[str]:
    """Yield the unknown words of a command line of `cryoetgan`."""
    words = shlex.split(line.replace("…", " ").replace("<verb>", " ").replace("<stage>", " "))[1:]
    node = commands()
    while words and hasattr(node, "commands"):
        word = words.pop(0)
        if word.startswith("-"):
            return
        if word not in node.commands:
            yield f"{line}: no command {word}"
            return
        node = node.commands[word]
    known = {option for parameter in node.params for option in parameter.opts}
    known |= {option for parameter in node.params for option in parameter.secondary_opts}
    for word in words:
        option = word.partition("=")[0]
        if re.match(r"--?[a-z]", option) and option not in known | {"--help"}:
            yield f"{line}: no option {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_exist(page):
    found = COMMAND.findall(page.read_text().replace("\\\n", " "))
    assert [problem for line in found for problem in problems(line.strip())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_config_keys_exist(page):
    unknown = []
    for key in KEY.findall(page.read_text()):
        if key.endswith(FILES):
            continue
        node: Any = Config
        for word in key.split("."):
            fields = getattr(node, "model_fields", {})
            if word not in fields:
                unknown.append(key)
                break
            node = fields[word].annotation
    assert unknown == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= README_WORDS
