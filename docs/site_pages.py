"""Pages of the site that are files of the repository: README, configuration, changelog.

MkDocs calls these hooks (`hooks:` in mkdocs.yml). A link between two files of the repository
becomes a link between their pages. A link to a file without a page becomes plain text, since the
site is read without the repository.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "README.md": "index.md",
    "config/README.md": "configuration.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "development/contributing.md",
}
"""File of the repository, and its page."""
RELATIVE_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `PAGES`."""
    for source, page in PAGES.items():
        path = Path(config.config_file_path).parent / source
        if path.exists():
            files.append(File.generated(config, page, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt the links of a page."""
    uri = page.file.src_uri
    source = next((name for name, other in PAGES.items() if other == uri), f"docs/{uri}")
    return adapt_links(markdown, source, uri, Path(config.config_file_path).parent)


def adapt_links(text: str, source: str, page: str, root: Path) -> str:
    """Return the text of file `source` with its relative links as seen from `page`."""

    def adapt(match: re.Match[str]) -> str:
        image, label, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (root / path).exists():
            raise PluginError(f"{source} links to {target}, which does not exist")
        if path in PAGES:
            path = PAGES[path]
        elif path.startswith("docs/"):
            path = path.removeprefix("docs/")
        else:
            return label
        relative = posixpath.relpath(path, posixpath.dirname(page) or ".")
        return f"{image}[{label}]({relative}{anchor or ''})"

    return RELATIVE_LINK.sub(adapt, text)
