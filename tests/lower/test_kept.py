"""What is kept of a kernel, and for which call: one that differs in anything gets its own."""

from __future__ import annotations

import math
import threading
from dataclasses import fields, replace
from unittest import mock

import pytest

from tdsl.lower import lower, static_axes
from tdsl.lower.emit import emission
from tdsl.lower.emit.text import function_text
from tdsl.lower.emit.triton import TritonSource
from tdsl.lower.facts.binding import Binding, TensorArg, exact
from tdsl.lower.facts.candidates import Budget
from tdsl.lower.facts.extents import Arithmetic, Signed
from tdsl.pipeline import load
from tdsl.source import Source

TEXT = """
template scaled(x: T[M, N], w: T[N]?, p: int, s: float, c: const float) -> y: T[M, N]
where T in (f16, f32, f64):
    config BLOCK=16
    config BLOCK=32
    for m, n in grid(M by BLOCK, N by 16):
        v = f32(load x[m, n]) * s * c
        if w:
            v += f32(load w[n])
        store y[m, n] = T(v) + T(p)
"""
KERNEL = load(Source("<kept>", TEXT))
X = TensorArg(dtype="f32", shape=("ks0", 40), strides=(40, 1))
BINDING = Binding(
    tensors={"x": X, "w": None, "y": X},
    scalars={"p": 1, "s": 0.0},
    consts={"c": 2.0},
    hints={"ks0": 100},
    budget=Budget(most=8),
)
TENSORS = {
    "dtype": ["f16"],
    "shape": [("ks1", 40), (Signed("ks0"), 40), (Arithmetic("+", "ks0", 1), 40), (64, 40), ("ks0", 41)],
    "strides": [(48, 1), (1, "ks0"), ("ks1", 1)],
    "offset": [1, "ks0"],
}
BUDGETS = {
    "most": [1],
    "shared_memory": [1 << 16],
    "registers": [255],
    "warp_size": [64],
    "asynchronous": [True],
}
BINDINGS = {
    "tensors": [
        *({**BINDING.tensors, "x": replace(X, **{n: v})} for n, vs in TENSORS.items() for v in vs),
        {**BINDING.tensors, "w": TensorArg(dtype="f32", shape=(40,), strides=(1,))},
    ],
    "scalars": [
        {"p": p, "s": s} for p, s in [(2, 0.0), ("ks1", 0.0), (1, -0.0), (1, 0), (1, "fs0"), (1, math.nan)]
    ],
    "consts": [{"c": c} for c in (3.0, 2, True, "2.0", -2.0)],
    "hints": [{"ks0": 101}, {}],
    "index_dtype": ["i64"],
    "f32_precision": ["tf32"],
    "budget": [None, *(replace(Budget(most=8), **{n: v}) for n, vs in BUDGETS.items() for v in vs)],
}


def test_every_part_is_varied() -> None:
    for kind, varied in [(Binding, BINDINGS), (TensorArg, TENSORS), (Budget, BUDGETS)]:
        assert {entry.name for entry in fields(kind)} == {*varied}


def test_bindings_that_differ_are_not_equal() -> None:
    others = [replace(BINDING, **{name: value}) for name, values in BINDINGS.items() for value in values]
    for at, one in enumerate([BINDING, *others]):
        for its, other in enumerate([BINDING, *others]):
            assert (one == other) == (at == its), (one, other)
    assert len({BINDING, *others}) == 1 + len(others)
    assert replace(BINDING) == BINDING and hash(replace(BINDING)) == hash(BINDING)
    assert BINDING != "another thing"


@pytest.mark.parametrize("one, other", [(1, True), (1, 1.0), (0.0, -0.0), (1, "1"), ({"a": 1}, {"b": 1})])
def test_values_that_python_takes_for_equal(one: object, other: object) -> None:
    assert exact(one) == exact(one) and exact(one) != exact(other)
    assert exact({"a": one}) != exact({"a": other})


def test_nan_is_one_value() -> None:
    assert exact(math.nan) == exact(float("nan"))


# Emission


def emitted(*bindings: Binding) -> tuple[list[TritonSource], int]:
    """The sources, and how many of them were emitted."""
    emission.lower.cache_clear()
    with mock.patch.object(emission, "_Emission", wraps=emission._Emission) as made:
        return [lower(KERNEL, binding) for binding in bindings], made.call_count


def test_one_emission_for_what_is_equal() -> None:
    sources, count = emitted(*(replace(BINDING) for _ in range(8)))
    assert count == 1 and all(source is sources[0] for source in sources)
    assert function_text(sources[0]) == function_text(emission.lower.__wrapped__(KERNEL, BINDING))


def test_one_emission_for_each_that_differs() -> None:
    others = [
        replace(BINDING, scalars={"p": p, "s": s}, consts={"c": c})
        for p in (1, 2)
        for s in (0.0, -0.0, 0)
        for c in (2.0, 3.0)
    ]
    sources, count = emitted(*others, *map(replace, others))
    assert count == len(others)
    for binding, source in zip(others * 2, sources, strict=True):
        assert function_text(source) == function_text(emission.lower.__wrapped__(KERNEL, binding))
    assert len(set(map(function_text, sources))) == len(others)


def test_kernels_of_one_text_are_two() -> None:
    """What is emitted says where in its file it was written."""
    moved = load(Source("<kept>", "\n" + TEXT))
    assert moved != KERNEL and moved.body == KERNEL.body
    one, other = lower(KERNEL, BINDING), lower(moved, BINDING)
    (mine,), (its,) = one.load_slots(), other.load_slots()  # of 'x': there is no 'w'
    assert mine.span is not None and its.span is not None and mine.span.start + 1 == its.span.start


def test_it_is_bounded() -> None:
    for kept in (lower, static_axes):
        assert kept.cache_info().maxsize is not None


def test_what_is_wrong_is_said_each_time() -> None:
    kernel = load(Source("<kept>", TEXT.replace("BLOCK=16", "BLOCK=N").replace("    config BLOCK=32\n", "")))
    said = []
    for _ in range(2):
        with pytest.raises(Exception, match="a block is a power of two") as caught:
            lower(kernel, BINDING)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_threads_get_one_text() -> None:
    emission.lower.cache_clear()
    texts: list[str] = []
    bindings = [replace(BINDING, consts={"c": float(number % 3)}) for number in range(24)]
    start = threading.Barrier(8)

    def work(mine: list[Binding]) -> None:
        start.wait()
        texts.extend(function_text(lower(KERNEL, binding)) for binding in mine)

    threads = [threading.Thread(target=work, args=(bindings[at::8],)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {function_text(emission.lower.__wrapped__(KERNEL, binding)) for binding in bindings}
    assert len(texts) == 24 and set(texts) == expected and len(expected) == 3
