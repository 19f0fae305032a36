"""Pages of the site without a file in docs/: README, configuration, changelog, commands.

MkDocs calls these hooks (`hooks:` in mkdocs.yml). A link between two files of the repository
becomes a link between their pages. A link to a file without a page becomes plain text, since the
site is read without the repository.
"""

import posixpath
import re
from pathlib import Path

import typer
import typer.cli
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from cryoetgan import cli

PAGES = {
    "README.md": "index.md",
    "config/README.md": "configuration.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "development/contributing.md",
}
"""File of the repository, and its page."""
FUNCTION = re.compile(r"`(cryoetgan(?:\.\w+)*?\.((?:\w+\.)?\w+))`")
"""A dotted name, which gets a link to the API reference; its last two parts are shown."""
RELATIVE_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


COMMON_OPTIONS = re.compile(
    r"^\* `(-v, --verbose|-q, --quiet|--help|--\w+-completion)`.*\n", re.MULTILINE
)
"""Options that every command has."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `PAGES`, and the page of all commands."""
    for source, page in PAGES.items():
        path = Path(config.config_file_path).parent / source
        if path.exists():
            files.append(File.generated(config, page, content=path.read_text(encoding="utf-8")))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def commands_page() -> str:
    """Return the page of all commands and options, from their help texts."""
    group = cli.build()
    context = typer.Context(group, info_name="cryoetgan")
    text = typer.cli.get_docs_for_click(
        obj=group, ctx=context, name="cryoetgan", title="Commands of `cryoetgan`"
    )
    return COMMON_OPTIONS.sub("", text).replace("**Options**:\n\n\n", "")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt the links of a page."""
    uri = page.file.src_uri
    source = next((name for name, other in PAGES.items() if other == uri), f"docs/{uri}")
    text = adapt_links(markdown, source, uri, Path(config.config_file_path).parent)
    return FUNCTION.sub(r"[`\2`][\1]", text) if uri == "methods.md" else text


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
