"""What MkDocs needs besides `docs/`: pages from files in the root, and links that are right on the site.

    [docs/fusion.md](docs/fusion.md#asking)   in README.md           ->  fusion.md#asking
    [examples](../examples/rope)              in docs/language.md    ->  examples.md#rope

MkDocs imports this file by itself (`hooks` in mkdocs.yml), in an environment that need not have tdsl.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
LEXERS = {"tdsl": "python", "triton": "python", "helion": "python"}  # that Pygments has

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()[^()\s]+(?=\))")
_LANGUAGE = re.compile(r"^```(\w+)$", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    sources = {page: source for source, page in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return outside_of_code(markdown, lambda text: _LINK.sub(lambda link: site_link(link[0], source), text))


def outside_of_code(markdown: str, change: Callable[[str], str]) -> str:
    """`markdown` with its text changed, and blocks of code that are called what Pygments calls them."""
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts.append(change(markdown[end : fence.start()]))
        parts.append(_LANGUAGE.sub(lambda found: "```" + LEXERS.get(found[1], found[1]), fence[0], count=1))
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def site_link(link: str, source: str) -> str:
    """Where a link of the file `source`, which is right in the repository, leads on the site. One to a file that is no
    page stays as it is, and fails a strict build."""
    if re.match(r"[a-z]+:", link) or link.startswith("#"):
        return link
    path, hash_, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if path in PAGES:
        return PAGES[path] + hash_ + anchor
    if path.startswith("docs/"):
        return path.removeprefix("docs/") + hash_ + anchor
    folder, _, example = path.partition("/")
    if folder == "examples":
        return "examples.md" + (f"#{example}" if example else "")
    return link
