"""Check the language of docstrings, comments, messages and documentation.

Run by `make check`; `python tests/prose.py PATH...` lists the findings of some files only.
The rules, with their reasons, follow from a comparison with nine codebases of the field:

1. `if` states a condition, `where` names a place. Readers of English expect it.
2. Nouns have names: "the output", not "what is made of it". Names can be searched.
3. One subject, one verb: no "of which", "that of", "those of". Such sentences are read twice.
4. The technical term, not a person: a network overfits, it does not know crops by heart.
5. A sentence of the README or of an error message has at most 25 words.

Rules 1 and 2 are measured as rates over all docstrings of the package, since single uses are
good English. Rules 3 and 4 are lists of phrases. The rates of nine other codebases: "what" 0 to
0.1, "where" 0 to 3.2, "if" 4 to 16 per 1,000 words.
"""

import ast
import functools
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RATES = {"what": (0.0, 2.0), "where": (0.0, 4.0), "if": (3.0, 1000.0)}
"""Lowest and highest number of uses per 1,000 words of docstrings."""
LONGEST_SENTENCE = 25
"""Words."""
PHRASES = {
    r"nought": "zero",
    r"by heart": "overfits",
    r"mend(s|ed|ing)?": "repair, fix",
    r"(is|are|was) no (?!longer\b|more\b|such\b|loss\b)[a-z]+": "is not a ...",
    r"of which": "two sentences, or the noun",
    r"(that|those) of": "repeat the noun",
    r"what is": "name the noun",
    r"what (was|is) (made|left|read|written|said|asked|given)": "name the noun",
    r"so many": "the number of",
    r"ship(s|ped|ping)?": "export",
    r"yardsticks?": "benchmark",
    r"rivals?|competitors?|competitions?": "comparison, method",
    r"witness(es|ed)?": "statistic, evidence",
    r"doubt(s|ed|ful)?": "warning, unreliable",
    r"typed(-in)? (physics|simulation)|physics typed in": "conventional simulation",
    r"(?<!\")nulls(?!\")": "baselines",  # the seed of random numbers keeps the name "nulls"
    r"(goes|go|gone|going) on (from|with)": "resume",
    r"parted|told apart|tells? apart": "split, distinguish",
    r"knows? of each other": "are correlated",
    r"look(s|ed|ing)? at": "inspect, evaluate",
    r"learnt": "learned",
    r"crowding": "pair correlation",
    r"critics?": "discriminator",
    r"marked particles?|marks": "annotations",
}
"""Regular expression of a phrase, and its replacement."""
# a key such as `translation.old_name` may be quoted
PATTERN = re.compile(
    r"(?<![.\w])(?:" + "|".join(f"(?:{phrase})" for phrase in PHRASES) + r")\b", re.I
)
PROSE = ["README.md", "CONTRIBUTING.md", "config/README.md", "docs/*.md", "docs/*/*.md"]
CODE = ["cryoetgan/**/*.py", "workflow/**/*.smk", "workflow/Snakefile", "workflow/**/*.rst"]
PAGES = ["cryoetgan/**/*.j2", "cryoetgan/**/*.js", "config/*.yaml"]
EXEMPT = {"prose.py"}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Return all nodes of the syntax tree of a Python file."""
    return [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every docstring of a Python file, attributes' included."""
    for node in nodes(path):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def strings_and_comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every string and comment of a Python or Snakemake file."""
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        # strings that seed random numbers must not change; RENAMED holds old names
        if token.type in kinds and not re.search(r"rng\(seed|^RENAMED", token.line):
            yield from enumerate(token.string.splitlines(), start=token.start[0])


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every message of a `UserError` or a log call."""
    for node in nodes(path):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        if name in ("UserError", "WorkflowError", "warning", "info"):
            parts = (
                node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            )
            text = "".join(
                part.value
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
                else "X"
                for part in parts
            )
            yield node.lineno, text


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text; a list item, a table cell and a heading end one too."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.S)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    for part in re.split(r"(?<=[.:;!?])\s|\n\s*\n|\n\s*[-*#|]|\|", text):
        if part.strip():
            yield " ".join(part.split())


def too_long(text: str) -> Iterator[str]:
    """Yield the sentences of a text with more than `LONGEST_SENTENCE` words."""
    for sentence in sentences(text):
        if len(re.findall(r"[A-Za-z0-9][\w'-]*", sentence)) > LONGEST_SENTENCE:
            yield sentence


def findings(path: Path) -> Iterator[str]:
    """Yield one line per violation in a file."""
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    code = path.suffix in (".py", ".smk") or path.name == "Snakefile"
    text = path.read_text(encoding="utf-8")
    lines = strings_and_comments(path) if code else enumerate(text.splitlines(), start=1)
    for number, line in lines if PATTERN.search(text) else ():
        for match in PATTERN.finditer(line):
            found = match.group(0)
            hint = next(h for p, h in PHRASES.items() if re.fullmatch(p, found, re.I))
            yield f"{name}:{number}: '{found}' -> {hint}"
    if path.suffix == ".py":
        for number, text in messages(path):
            for sentence in too_long(text):
                yield f"{name}:{number}: message of over {LONGEST_SENTENCE} words: {sentence[:60]}..."
    if path.name == "README.md" and path.parent == ROOT:
        for sentence in too_long(path.read_text(encoding="utf-8")):
            yield f"{name}: sentence of over {LONGEST_SENTENCE} words: {sentence[:60]}..."


def rates(paths: list[Path]) -> dict[str, float]:
    """Return the uses of each word in `RATES` per 1,000 words of docstrings."""
    words = [
        word.lower()
        for path in paths
        for _, text in docstrings(path)
        for word in re.findall(r"[A-Za-z']+", text)
    ]
    return {word: 1000 * words.count(word) / max(1, len(words)) for word in RATES}


def main(names: list[str]) -> int:
    """Print all findings; return 1 if there are any."""
    paths = [path for pattern in CODE + PAGES + PROSE for path in sorted(ROOT.glob(pattern))]
    if names:
        wanted = [Path(name).resolve() for name in names]
        paths = [path for path in paths if any(path.is_relative_to(place) for place in wanted)]
    found = [line for path in paths if path.name not in EXEMPT for line in findings(path)]
    for word, rate in rates([path for path in paths if path.suffix == ".py"]).items():
        low, high = RATES[word]
        line = f"docstrings: '{word}' {rate:.1f} times per 1,000 words, wanted {low:g} to {high:g}"
        if names:
            print(line)
        if not low <= rate <= high:
            found.append(line)
    print("\n".join(found) or "prose: nothing found")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
