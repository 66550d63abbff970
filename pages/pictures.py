"""The pictures of docs/fusion.md, drawn into docs/pictures/."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pages.drawing import Drawing


def points() -> str:
    """The program of docs/fusion.md before and after."""
    drawing = Drawing(
        width=760,
        height=300,
        about="Above: sigmoid, matmul, relu and times bias as three kernels. Below: one kernel, sigmoid at the load "
        "of B, relu and the product with bias at the store of C.",
    )
    drawing.words(10, 22, "apart: three kernels, two tensors in memory between them", muted=True)
    drawing.box(20, 50, 50, 40, "B")
    drawing.arrow(70, 70, 120, 70)
    drawing.box(120, 50, 110, 40, "sigmoid", fill="work")
    drawing.arrow(230, 70, 300, 70, "buffer")
    drawing.box(300, 50, 110, 40, "matmul", fill="kernel")
    drawing.arrow(410, 70, 480, 70, "buffer")
    drawing.box(480, 50, 130, 40, "relu, * bias", fill="work")
    drawing.arrow(610, 70, 680, 70)
    drawing.box(680, 50, 60, 40, "result")
    drawing.words(10, 132, "fused: one kernel", muted=True)
    drawing.frame(110, 145, 530, 140, "for m, n in grid(...)")
    drawing.box(20, 190, 50, 40, "B")
    drawing.arrow(70, 210, 130, 210)
    drawing.box(130, 180, 140, 60, "load B[k, n]", "sigmoid", fill="point")
    drawing.arrow(270, 210, 320, 210)
    drawing.box(320, 190, 100, 40, "acc += dot", fill="kernel")
    drawing.arrow(420, 210, 470, 210)
    drawing.box(470, 180, 150, 60, "relu, * bias", "store C[m, n]", fill="point")
    drawing.arrow(620, 210, 680, 210)
    drawing.box(680, 190, 60, 40, "result")
    drawing.box(680, 245, 60, 36, "bias")
    drawing.arrow(680, 263, 560, 241)
    drawing.words(200, 262, "prologue", anchor="middle", muted=True)
    drawing.words(500, 262, "epilogue", anchor="middle", muted=True)
    return drawing.text()


def _questions(about: str, start: str, rows: Sequence[tuple[str, str]], end: str) -> str:
    """Questions from above to below; what says no is beside each."""
    drawing = Drawing(width=760, height=64 * len(rows) + 100, about=about)
    drawing.box(20, 10, 400, 32, start, fill="work")
    y = 42
    for question, answer in rows:
        drawing.arrow(220, y, 220, y + 24)
        drawing.box(20, y + 24, 400, 40, question)
        drawing.arrow(420, y + 44, 480, y + 44, "no")
        drawing.box(480, y + 24, 270, 40, answer, fill="apart")
        y += 64
    drawing.arrow(220, y, 220, y + 24)
    drawing.box(20, y + 24, 400, 32, end, fill="kernel")
    return drawing.text()


PROLOGUE = (
    ("Is it pointwise, in Triton, and of no other template?", "a reduction, a library, digamma ..."),
    ("Does the point let it in, and see all of it once?", "says 'nofuse'; a slice of it; expanded"),
    ("Does it make a new tensor?", "it writes into a tensor that exists"),
    ("Does nothing else read that?", "returned; also read by ..."),
    ("Does it cost less there, or says the point 'fuse'?", "computing it there costs ..."),
    ("Is it read in the order in which it is computed?", "another order; expanded in between"),
    ("Can the two run at one place?", "another kernel has to run between"),
)
EPILOGUE = (
    ("Is it pointwise, in Triton, and of no other template?", "a reduction, a library, digamma ..."),
    ("Does the store let it in?", "says 'nofuse'; 'accumulate'"),
    ("Has it as many elements as are stored?", "it has 100 elements, and 'C' has 3500"),
    ("Are the other results that it reads at hand there?", "it needs 'm' where 'y' is stored, and ..."),
    ("Does it make a new tensor, or write the 'inout' itself?", "it writes into a tensor that exists"),
    ("Does it read in the order in which is stored?", "another order: flipped, gathered"),
    ("Can the two run at one place?", "another kernel has to run between"),
)

PICTURES: Mapping[str, Callable[[], str]] = {
    "points.svg": points,
    "prologue.svg": lambda: _questions(
        "The questions that are asked of work before a template, in order, and what is said where the answer is no.",
        "work that makes an input of a template",
        PROLOGUE,
        "a prologue: computed where the point loads",
    ),
    "epilogue.svg": lambda: _questions(
        "The questions that are asked of work behind a template, in order, and what is said where the answer is no.",
        "work that reads an output of a template",
        EPILOGUE,
        "an epilogue: computed where the point stores",
    ),
}
