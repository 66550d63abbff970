"""Writes what the documents have that is not written by hand.

python -m pages            docs/examples.md, docs/pictures/*.svg; tests/test_site.py fails where they are old
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pages.gallery import page
from pages.pictures import PICTURES

DOCS = Path(__file__).parent.parent / "docs"


def written() -> Mapping[str, str]:
    """What is written, by where in `docs/`."""
    return {"examples.md": page()} | {f"pictures/{name}": draw() for name, draw in PICTURES.items()}


def main() -> None:
    for name, text in written().items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
