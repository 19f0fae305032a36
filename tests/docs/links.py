"""Check the links of the built site and of the repository's Markdown files.

`python tests/docs/links.py site`: exit code 1 if a link leads nowhere, or if a page loads something
from the network. MkDocs checks links between pages; this script also checks anchors in the API
reference, images, style sheets, and Markdown files that have no page.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"script", "link", "img", "iframe", "source"}
"""Elements whose addresses a browser loads by itself."""
MARKDOWN_LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.M)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)


class Page(HTMLParser):
    """Links, loaded addresses and anchors of one HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the addresses and the anchor of one element."""
        values = dict(attrs)
        self.anchors |= {values[key] or "" for key in ("id", "name") if key in values}
        address = values.get("href") or values.get("src")
        if address and not (tag == "link" and values.get("rel") == "canonical"):
            (self.loaded if tag in LOADING else self.links).append(address)


def site_problems(site: Path) -> Iterator[str]:
    """Yield one line per broken link, and per address that a page loads from the network."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        if name.name == "404.html":  # its links are absolute: it is shown at any address
            continue
        for address in page.links + page.loaded:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.loaded and parts.scheme != "data":
                    yield f"{name}: loads {address} from the network"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name}: {address} does not exist"
            elif parts.fragment and target in pages:
                anchor = unquote(parts.fragment)
                if anchor not in pages[target].anchors and not anchor.startswith("__"):
                    yield f"{name}: {address} has no such anchor"


def markdown_problems(root: Path) -> Iterator[str]:
    """Yield one line per relative link of the repository's Markdown files that leads nowhere."""
    paths = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    for folder in ("config", "envs", "results", "benchmarks", ".github", ".test"):
        paths += (root / folder).rglob("*.md") if folder != "results" else root.glob("results/*.md")
    for path in paths:
        for address in MARKDOWN_LINK.findall(CODE.sub("", path.read_text("utf-8"))):
            name, _, anchor = address.partition("#")
            target = path.parent / name if name else path
            if not target.exists():
                yield f"{path.relative_to(root)}: {address} does not exist"
            elif anchor and anchor not in headings(target.read_text("utf-8")):
                yield f"{path.relative_to(root)}: {address} has no such heading"


def headings(text: str) -> set[str]:
    """Return the anchors of a Markdown file's headings."""
    titles = (re.sub(r"[^\w\s-]", "", title.lower()) for title in HEADING.findall(text))
    return {re.sub(r"\s+", "-", title.strip()) for title in titles}


def main(site: Path) -> int:
    """Print all problems; return 1 if there are any."""
    problems = [*site_problems(site), *markdown_problems(Path(__file__).resolve().parents[2])]
    print("\n".join(problems) or "links: all lead somewhere")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
