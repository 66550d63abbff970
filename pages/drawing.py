"""SVG from a few shapes: boxes, words and arrows, in text that is the same wherever it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

# Readable on the white of the picture, which has its own ground.
INK, MUTED = "#24292f", "#57606a"
FILLS = {"plain": "#f6f8fa", "kernel": "#ddf4ff", "point": "#fff8c5", "work": "#dafbe1", "apart": "#ffebe9"}


@dataclass(kw_only=True)
class Drawing:
    width: int
    height: int
    about: str  # what is seen, for who cannot see it
    _shapes: list[str] = field(default_factory=list)

    def box(self, x: int, y: int, width: int, height: int, *lines: str, fill: str = "plain") -> None:
        """A box with lines of words in its middle."""
        self._shapes.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{FILLS[fill]}" stroke="{MUTED}"/>'
        )
        top = y + height // 2 - 8 * (len(lines) - 1) + 5
        for number, line in enumerate(lines):
            self.words(x + width // 2, top + 16 * number, line, anchor="middle")

    def frame(self, x: int, y: int, width: int, height: int, title: str, fill: str = "kernel") -> None:
        """A box around others, its title at the top."""
        self.box(x, y, width, height, fill=fill)
        self.words(x + 10, y + 19, title, muted=True)

    def words(self, x: int, y: int, text: str, *, anchor: str = "start", muted: bool = False) -> None:
        color = MUTED if muted else INK
        self._shapes.append(
            f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
        )

    def arrow(self, x1: int, y1: int, x2: int, y2: int, text: str = "") -> None:
        self._shapes.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" marker-end="url(#head)"/>'
        )
        if text:
            level = y1 == y2
            x, y = ((x1 + x2) // 2, y1 - 6) if level else (x1 + 7, (y1 + y2) // 2 + 4)
            self.words(x, y, text, anchor="middle" if level else "start", muted=True)

    def text(self) -> str:
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'width="{self.width}" height="{self.height}" font-family="sans-serif" font-size="13" role="img">',
                f"<title>{escape(self.about)}</title>",
                '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
                f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
                f'<rect width="{self.width}" height="{self.height}" fill="white"/>',
                *self._shapes,
                "</svg>",
                "",
            ]
        )
