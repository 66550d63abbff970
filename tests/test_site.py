"""The documents as a site: what is written by a command is up to date, links lead somewhere, and MkDocs has no complaint."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pages.__main__ import DOCS, written
from pages.site import outside_of_code, site_link

ROOT = Path(__file__).parent.parent
MARKDOWN = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]


def mkdocs() -> list[str] | None:
    """How MkDocs is run: from this environment, or from another one that is in the path."""
    if importlib.util.find_spec("mkdocs") and importlib.util.find_spec("material"):
        return [sys.executable, "-m", "mkdocs"]
    found = shutil.which("mkdocs")
    return found and [found]


@pytest.mark.skipif(mkdocs() is None, reason="MkDocs is not installed: pip install -e '.[docs]'")
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    command = [*(mkdocs() or ()), "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # the theme's, about a release of MkDocs to come
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index.html", "tutorial/index.html", "examples/index.html", "search/search_index.json"):
        assert (tmp_path / "site" / page).is_file()


@pytest.mark.parametrize("name", written())
def test_what_is_written_by_a_command_is_up_to_date(name: str) -> None:
    path = DOCS / name
    now = path.read_text(encoding="utf-8") if path.exists() else None
    assert now == written()[name], f"docs/{name} is old: python -m pages"


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_to_what_is_there(path: Path) -> None:
    """In the repository, as a code host shows it; anchors too."""
    found: list[str] = []

    def collect(text: str) -> str:
        found.extend(re.findall(r"\]\(([^()\s]+)\)", text))
        return text

    outside_of_code(path.read_text(encoding="utf-8"), collect)
    for link in found:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists() and target.is_relative_to(ROOT), f"{path.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name}: {link}"


def anchors(path: Path) -> set[str]:
    """As code hosts and MkDocs make them of headings."""
    headings: list[str] = []

    def collect(text: str) -> str:
        headings.extend(re.findall(r"^#+ (.*)$", text, re.MULTILINE))
        return text

    outside_of_code(path.read_text(encoding="utf-8"), collect)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links_on_the_site() -> None:
    assert site_link("docs/fusion.md#asking", "README.md") == "fusion.md#asking"
    assert site_link("../README.md", "docs/language.md") == "index.md"
    assert site_link("examples", "README.md") == "examples.md"
    assert site_link("../examples/rope", "docs/language.md") == "examples.md#rope"
    assert site_link("performance/h200.png", "docs/performance.md") == "performance/h200.png"
    assert site_link("https://pytorch.org", "README.md") == "https://pytorch.org"
