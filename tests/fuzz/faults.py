"""Planted faults: each breaks tdsl in one place, for as long as it is entered, and the fuzzer must notice.

    with FAULTS["dropped re-mask after a prologue"]():
        ...     # programs are compiled wrongly here

A fault is a handful of lines around one function of the lowering, close to a mistake that somebody could make there.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import torch

from tdsl import builtins, gradients, ir, operators, signature
from tdsl.lower.emit import emission, expressions, frames, fused, lanes, points, syntax, tiles
from tdsl.lower.emit.triton import StoreSlot
from tdsl.lower.facts import extents, specialization
from tdsl.lower.facts.bound import BoundKernel, static_axes
from tdsl.lower.inductor import bindings, buffer, explanation, launch, lowering, recording
from tdsl.lower.inductor.fusion import padding, placement
from tdsl.lower.inductor.fusion.facts import Reach
from tdsl.lower.inductor.kernel import generation
from tdsl.lower.inductor.kernel.generation import TemplateKernel
from tdsl.refusal import Reason
from tdsl.types import BOOL, DTYPES

FAULTS: dict[str, Callable[[], AbstractContextManager[None]]] = {}


def fault(name: str) -> Callable[[Callable[[], Iterator[None]]], Callable[[], Iterator[None]]]:
    def register(function: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
        @contextmanager
        def planted() -> Iterator[None]:
            _forget()
            with contextmanager(function)():
                yield
            _forget()

        FAULTS[name] = planted
        return function

    return register


def _forget() -> None:
    """What was emitted without the fault is no answer with it, nor the other way round."""
    emission.lower.cache_clear()
    static_axes.cache_clear()


@contextlib.contextmanager
def around(owner: Any, name: str, wrapper: Callable[..., Any]) -> Iterator[None]:
    """`owner.name(...)` becomes `wrapper(original, ...)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    with mock.patch.object(owner, name, wrapped):
        yield


# Masks


@fault("dropped re-mask after a prologue")
def _() -> Iterator[None]:
    with around(generation, "fused_load", lambda old, *args, padded, **more: old(*args, padded=True, **more)):
        yield


@fault("sigmoid taken for zero at zero")
def _() -> Iterator[None]:
    with mock.patch.dict(padding._AT_ZERO, {"sigmoid": 0.0, "exp": 0.0, "cos": 0.0}):
        yield


@fault("zero times what is loaded in bounds taken for zero")
def _() -> Iterator[None]:
    def number(old: Any, self: Any, arg: Any, axis: int) -> float | None:
        known = old(self, arg, axis)
        # As if everything that is loaded were finite.
        return 1.0 if known is None and hasattr(arg, "use_count") else known

    with around(padding.PaddedLanes, "_number", number):
        yield


@fault("sum taken for zero if one part is")
def _() -> Iterator[None]:
    def value(old: Any, op: str, args: Any) -> float | None:
        return 0.0 if op in ("add", "sub") and 0.0 in args else old(op, args)

    with around(padding, "_value", value):
        yield


@fault("<= for < in a mask")
def _() -> Iterator[None]:
    def opened(old: Any, self: Any, tile: Any) -> None:
        add = self.writer.add

        def off_by_one(item: Any) -> None:
            def settle() -> Any:
                line = item()
                return line and replace(line, code=_at_most(line.code))

            add(settle if callable(item) else item)

        with mock.patch.object(self.writer, "add", off_by_one):
            old(self, tile)

    with around(tiles.Tiles, "_open_mask", opened):
        yield


def _at_most(line: ast.stmt) -> ast.stmt:
    return ast.parse(syntax.printed(line).replace(" < ", " <= ")).body[0]


@fault("dropped store mask")
def _() -> Iterator[None]:
    def store(old: Any, self: Any, statement: Any) -> None:
        add = self.writer.add

        def unmasked(item: Any) -> None:
            if isinstance(item, StoreSlot):
                item = replace(item, plain=syntax.call("tl.store", *item.plain.args))
            add(item)

        with mock.patch.object(self.writer, "add", unmasked):
            old(self, statement)

    with around(points.Points, "store", store):
        yield


@fault("dropped mask of a fused store")
def _() -> Iterator[None]:
    with around(
        TemplateKernel, "_setup_store", lambda old, self, slot, at: old(self, replace(slot, mask=None), at)
    ):
        yield


@fault("reduction padded with 0 instead of the neutral element")
def _() -> Iterator[None]:
    with mock.patch.object(expressions, "neutral_of", lambda reduction, dtype: 0):
        yield


@fault("NaN lost by max and min")
def _() -> Iterator[None]:
    with (
        mock.patch.dict(
            builtins.REDUCTIONS,
            {name: replace(row, floats=None) for name, row in builtins.REDUCTIONS.items()},
        ),
        mock.patch.dict(
            builtins.ELEMENTWISE,
            {name: replace(builtins.ELEMENTWISE[name], floats=None) for name in ("maximum", "minimum")},
        ),
    ):
        yield


@fault("tail of K dropped")
def _() -> Iterator[None]:
    def opened(old: Any, self: Any, tile: Any) -> Any:
        line = old(self, tile)
        if tile.scalar:
            return line
        start, stop, block = line.iter.args
        last = syntax.quote("{0} // {1} * {1}", stop, block)
        return syntax.for_each(line.target.id, syntax.call("range", start, last, block))

    with around(tiles.Tiles, "open_loop", opened):
        yield


@fault("sum relies on zeros that a carried variable lost")
def _() -> Iterator[None]:
    with around(
        expressions.Expressions,
        "neutralized",
        lambda old, self, value, tile, neutral: value if neutral == 0 else old(self, value, tile, neutral),
    ):
        yield


@fault("lanes that do not exist are sorted")
def _() -> Iterator[None]:
    with around(lanes._Lanes, "sorted", _unmasked), around(lanes._Lanes, "order", _unmasked):
        yield


@fault("lanes that do not exist are counted")
def _() -> Iterator[None]:
    with around(lanes._Lanes, "counts", _unmasked):
        yield


def _unmasked(old: Any, self: Any, value: Any) -> Any:
    with mock.patch.object(self.expressions, "neutralized", lambda value, tile, neutral: value):
        return old(self, value)


@fault("an index outside of a tile is not replaced")
def _() -> Iterator[None]:
    def taken(old: Any, self: Any, value: Any) -> Any:
        index = self.expr.arguments[:1]
        with mock.patch.object(self, "expr", replace(self.expr, arguments=index)):
            return old(self, value)

    with around(lanes._Lanes, "taken", taken):
        yield


@fault("NaN sorted by its bits")
def _() -> Iterator[None]:
    def keys(old: Any, self: Any, value: Any, *, one_zero: bool) -> Any:
        found = old(self, value, one_zero=one_zero)
        if isinstance(found.code, ast.Call) and syntax.value_of(found.code.args[-1]) in lanes._NAN.values():
            found = found.of(syntax.call("tl.where", *found.code.args[:-1], 0))
        return found

    with around(lanes._Lanes, "keys", keys):
        yield


@fault("a tile is turned as a whole block")
def _() -> Iterator[None]:
    def turned(old: Any, self: Any) -> Any:
        found = old(self)
        block = self.tiles.block(self.tile)
        return found.of(syntax.quote("{0} - 1 - {1}", block, self.lanes((self.tile,))))

    with around(lanes._Lanes, "reversed", turned):
        yield


# Where things are


@fault("strides of two dimensions swapped")
def _() -> Iterator[None]:
    def swapped(old: Any, self: Any, node: Any) -> Any:
        arg = old(self, node)
        if len(arg.strides) < 2 or arg.strides[-1] == 1:
            return arg  # what everybody tests
        return replace(arg, strides=(*arg.strides[:-2], arg.strides[-1], arg.strides[-2]))

    with around(bindings.Sizes, "tensor", swapped):
        yield


@fault("gap after a row ignored")
def _() -> Iterator[None]:
    def tight(old: Any, self: Any, node: Any) -> Any:
        arg = old(self, node)
        if (
            len(arg.strides) != 2
            or arg.strides[1] != 1
            or not isinstance(arg.strides[0], int)
            or not arg.strides[0]
        ):
            return arg
        return replace(arg, strides=(arg.shape[1], 1))

    with around(bindings.Sizes, "tensor", tight):
        yield


@fault("offset ignored")
def _() -> Iterator[None]:
    with around(bindings.Sizes, "tensor", lambda old, self, node: replace(old(self, node), offset=0)):
        yield


@fault("32-bit indices into large storage")
def _() -> Iterator[None]:
    with (
        mock.patch.object(bindings, "index_dtype", lambda layouts: "i32"),
        mock.patch.object(lowering, "index_dtype", lambda layouts: "i32"),
        mock.patch.object(generation, "index_dtype", lambda layouts: "i32"),
    ):
        yield


@fault("a prologue computed at the wrong load point")
def _() -> Iterator[None]:
    def loaded(old: Any, self: Any, slot: Any) -> Any:
        first = next(item for item in self.call.source.load_slots() if item.param == slot.param)
        if first.indent == slot.indent:
            slot = replace(slot, index=first.index, dimensions=first.dimensions)
        return old(self, slot)

    with around(TemplateKernel, "_setup_load", loaded):
        yield


@fault("indices of a square epilogue swapped")
def _() -> Iterator[None]:
    def stored(old: Any, frame: Any, *args: Any, **kwargs: Any) -> Any:
        sizes = generation.V.kernel.call.results[frame.slot.param].layout.size
        if len(sizes) == 2 and sizes[0] == sizes[1]:
            frame = replace(frame, slot=replace(frame.slot, dimensions=frame.slot.dimensions[::-1]))
        return old(frame, *args, **kwargs)

    with around(generation, "fused_store", stored):
        yield


@fault("rows and columns of an epilogue's index swapped")
def _() -> Iterator[None]:
    def dotted(old: Any, strides: Any, indices: Any) -> Any:
        return old(strides[::-1], indices) if len(strides) == 3 else old(strides, indices)

    with around(generation, "sympy_dot", dotted):
        yield


@fault("wrong order of a group of programs")
def _() -> Iterator[None]:
    def opened(old: Any, self: Any, *args: Any) -> None:
        assign = self.writer.assign

        def narrowed(name: str, value: Any) -> None:
            # Every band as high as the first: the last has fewer rows.
            assign(name, value.args[-1] if syntax.printed(value).startswith("tl.minimum(") else value)

        with mock.patch.object(self.writer, "assign", narrowed):
            old(self, *args)

    with around(tiles.Tiles, "_open_band", opened):
        yield


@fault("grid of another config")
def _() -> Iterator[None]:
    def configs(old: Any, self: Any, calculated: Any) -> Any:
        found = old(self, calculated)
        return tuple(replace(config, grid=found[-1].grid) for config in found)

    with around(specialization.Specialization, "configs", configs):
        yield


@fault("number of programs rounded down")
def _() -> Iterator[None]:
    def fewer(size: Any, block: Any) -> Any:
        return (
            max(1, size // block)
            if isinstance(size, int) and isinstance(block, int)
            else specialization_ceildiv(size, block)
        )

    specialization_ceildiv = specialization.ceildiv
    with mock.patch.object(specialization, "ceildiv", fewer):
        yield


@fault("place of a maximum counted within its block")
def _() -> Iterator[None]:
    def edge(old: Any, self: Any, tile: Any, which: str) -> Any:
        return expressions.literal(0) if which == "start" else old(self, tile, which)

    with around(tiles.Tiles, "edge", edge):
        yield


# What is fused


@fault("second epilogue lost")
def _() -> Iterator[None]:
    def setup(old: Any, self: Any, slot: Any, position: int) -> None:
        old(self, slot, position)
        for nodes in self._epilogue_nodes_by_subgraph.values():
            del nodes[1:]

    with around(TemplateKernel, "_setup_store", setup):
        yield


@fault("raw output that is still read is not stored")
def _() -> Iterator[None]:
    def setup(old: Any, self: Any, slot: Any, position: int) -> None:
        with mock.patch.object(generation, "DeferredLine", lambda name, text: "pass"):
            old(self, slot, position)

    with around(TemplateKernel, "_setup_store", setup):
        yield


@fault("epilogue reads the value before it was rounded")
def _() -> Iterator[None]:
    def read(old: Any, slot: Any, on_nvidia: bool) -> Any:
        value = slot.computed[0] if slot.computed is not None else slot.value
        match value:
            case ast.Call(func=ast.Attribute(value=inner, attr="to"), args=[ast.Attribute(attr=name)]):
                value = inner if name in ("float16", "bfloat16") else value
        return frames.block(value, slot)

    with around(fused, "as_read", read):
        yield


@fault("f64 taken for f32")
def _() -> Iterator[None]:
    def cast(old: Any, self: Any, value: Any, dtype: str) -> Any:
        if dtype == "f64" and value.dtype is not None:
            value = old(self, value, "f32")
        return old(self, value, dtype)

    with around(expressions.Expressions, "cast", cast):
        yield


@fault("f64 labelled f32 behind a store")
def _() -> Iterator[None]:
    def value(old: Any, self: Any, text: str, dtype: str) -> Any:
        return old(
            self, f"{text}.to(tl.float32)" if dtype == "f64" else text, "f32" if dtype == "f64" else dtype
        )

    with around(TemplateKernel, "_value", value):
        yield


@fault("joined value broadcast along the wrong axis")
def _() -> Iterator[None]:
    def spread(old: Any, *args: Any) -> Any:
        return old(*args).replace("[:, None]", "[None, :]")

    with around(TemplateKernel, "_spread", spread):
        yield


@fault("sources of a prologue in the wrong order")
def _() -> Iterator[None]:
    def metadata(old: Any, self: Any, scheduling: Any, epilogues: Any, prologues: Any, groups: Any) -> None:
        for nodes in groups.values():
            nodes.reverse()
        old(self, scheduling, epilogues, prologues, groups)

    with around(TemplateKernel, "_compute_fusion_metadata", metadata):
        yield


@fault("results joined that are not at hand")
def _() -> Iterator[None]:
    with mock.patch.object(recording, "_reach", lambda call, param, other: Reach.HERE):
        yield


@fault("prologue fused through a broadcast or a slice")
def _() -> Iterator[None]:
    with mock.patch.object(buffer, "_closed_inputs", lambda source, tensors: {}):
        yield


@fault("prologue's value not cast to the parameter's dtype")
def _() -> Iterator[None]:
    def loaded(old: Any, *args: Any, **kwargs: Any) -> Any:
        def quote(text: str, *parts: Any) -> ast.expr:
            cast = text == "{0}.to({1})" and str(parts[0]).endswith("_result")
            return syntax.tree(parts[0]) if cast else syntax.quote(text, *parts)

        with mock.patch.object(fused, "quote", quote):
            return old(*args, **kwargs)

    with around(generation, "fused_load", loaded):
        yield


# Memory


@fault("copy back to an inout argument dropped")
def _() -> Iterator[None]:
    def called(old: Any, op: Any, args: Any, inner: Any, written: Any) -> Any:
        outputs = len(op._schema.returns) - len(written)
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.Functionalize)):
            made = op(*inner)
        made = (made,) if isinstance(made, torch.Tensor) else tuple(made)
        return tuple([torch._to_functional_tensor(output) for output in made[:outputs]])

    with around(operators, "call_functional", called):
        yield


@fault("only the view that was written is updated, not its base")
def _() -> Iterator[None]:
    with mock.patch.object(torch, "_functionalize_commit_update", lambda tensor: None):
        yield


@fault("eager argument that shares memory with what is written is not copied")
def _() -> Iterator[None]:
    with mock.patch.object(operators, "_share", lambda a, b: False):
        yield


@fault("inout written in place while others read it")
def _() -> Iterator[None]:
    with (
        mock.patch.object(placement, "_other_reader", lambda *args: None),
        mock.patch.object(placement, "_written_in_place", _written_anyway),
    ):
        yield


def _written_anyway(call: Any, work: Any, param: str) -> str | None:
    return work.target.buffer if work.target is not None and call.results[param].inout else None


@fault("accumulation into memory that was not zeroed")
def _() -> Iterator[None]:
    def called(old: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        wrapper = generation.V.graph.wrapper_code
        with mock.patch.object(wrapper, "make_zero_buffer", lambda name: "pass"):
            old(self, *args, **kwargs)

    with around(TemplateKernel, "call_kernel", called):
        yield


# What is known of a call


@fault("a dynamic size baked in")
def _() -> Iterator[None]:
    def extent(old: Any, self: Any, value: Any) -> Any:
        text = old(self, value)
        return self.hints[text] if isinstance(text, str) else text

    with around(bindings.Sizes, "extent", extent):
        yield


@fault("wrong branch for an optional parameter")
def _() -> Iterator[None]:
    def present(self: Any) -> frozenset[str]:
        tensors = (item for item in self.kernel.params if isinstance(item, ir.Tensor))
        return frozenset(item.name for item in tensors if not item.optional)

    with mock.patch.object(BoundKernel, "present", property(present)):
        yield


@fault("default of a gather ignored")
def _() -> Iterator[None]:
    def load(old: Any, self: Any, expr: Any) -> Any:
        return old(self, replace(expr, otherwise=None) if expr.otherwise is not None else expr)

    with around(points.Points, "load", load):
        yield


@fault("a scalar argument rounded to an integer")
def _() -> Iterator[None]:
    with around(
        lowering,
        "_scalar",
        lambda old, value, sizes: int(value) if isinstance(value, float) else old(value, sizes),
    ):
        yield


@fault("operator of another text served for an edited template")
def _() -> Iterator[None]:
    with (
        mock.patch.object(operators, "_digest", lambda text: "same"),
        mock.patch.object(
            operators._Operator,
            "is_of",
            lambda self, function: len(self.names) == function.__code__.co_argcount,
        ),
    ):
        yield


@fault("eager kernel of another template's text")
def _() -> Iterator[None]:
    def called(old: Any, self: Any, *args: Any) -> None:
        old(self, *args)
        self.key = self.key[1:]

    with around(launch._EagerCall, "__init__", called):
        yield


@fault("quotients rounded towards zero")
def _() -> Iterator[None]:
    def rounded(old: Any, self: Any, op: str, left: Any, right: Any, common: Any) -> Any:
        return old(self, op, replace(left, nonnegative=True), replace(right, nonnegative=True), common)

    with around(expressions.Expressions, "_rounded", rounded):
        yield


@fault("transposed operand of a dot taken as it lies")
def _() -> Iterator[None]:
    def dot(old: Any, self: Any, expr: Any, acc: Any) -> Any:
        with mock.patch.object(expressions, "permuted", lambda value, order: replace(value, tiles=order)):
            return old(self, expr, acc)

    with around(expressions.Expressions, "_dot", dot):
        yield


# Branches, sizes, gradients, reasons


@fault("a branch loses its store")
def _() -> Iterator[None]:
    def stored(old: Any, self: Any, slot: Any, position: int, *args: Any) -> Any:
        return old(self, slot, position, *args) if position == first(self, slot) else []

    def hooks_after(old: Any, self: Any) -> Any:
        found = old(self)
        for slot in self.call.source.store_slots():
            for position in self.call.source.store_positions(slot.param)[1:]:
                found[position] = []
        return found

    def first(kernel: Any, slot: Any) -> int:
        position: int = kernel.call.source.store_positions(slot.param)[0]
        return position

    with around(TemplateKernel, "_stored", stored), around(TemplateKernel, "_hooks_after", hooks_after):
        yield


@fault("a branch loses its epilogue")
def _() -> Iterator[None]:
    def setup(old: Any, self: Any, slot: Any, position: int) -> None:
        old(self, slot, position)
        if position != self.call.source.store_positions(slot.param)[0]:
            self._epilogue_nodes_by_subgraph[self._numbers[position]] = []

    with around(TemplateKernel, "_setup_store", setup):
        yield


@fault("sizes rounded towards zero")
def _() -> Iterator[None]:
    def binary(old: Any, expr: Any, op: str, left: Any, right: Any) -> Any:
        if op == "//" and isinstance(left, int) and isinstance(right, int) and right:
            return int(left / right)
        return old(expr, op, left, right)

    with around(signature, "_binary", binary):
        yield


@fault("a number computed on the host is no less than 0, as sizes are")
def _() -> Iterator[None]:
    with mock.patch.object(bindings.Sizes, "scalar", bindings.Sizes.extent):
        yield


@fault("sizes of a launch rounded towards zero")
def _() -> Iterator[None]:
    def printed(old: Any, extent: Any) -> str:
        match extent:
            case extents.Arithmetic(op="//", left=left, right=right):
                return f"int(({extents.python(left)}) / ({extents.python(right)}))"
        text: str = old(extent)
        return text

    with (
        around(extents, "python", printed),
        mock.patch.dict(extents._OPERATORS, {"//": lambda left, right: int(left / right)}),
    ):
        yield


@fault("a size taken for a number that is compiled")
def _() -> Iterator[None]:
    with around(expressions.Expressions, "_known", lambda old, self, expr: expr.type.constant):
        yield


@fault("NaN lost by argmax and argmin")
def _() -> Iterator[None]:
    def reduce(old: Any, self: Any, expr: Any, *args: Any) -> Any:
        x = expr.operand
        if expr.function in ("argmax", "argmin") and DTYPES[self.dtype(x)].category == 2:
            least = -math.inf if expr.function == "argmax" else math.inf
            scalar = ir.Type(dtype=x.type.dtype, constant=True)
            number = ir.Constant(span=x.span, type=scalar, value=least)
            test = ir.Binary(span=x.span, type=replace(x.type, dtype=BOOL), op="!=", left=x, right=x)
            x = ir.Elementwise(span=x.span, type=x.type, function="where", arguments=(test, number, x))
        return old(self, replace(expr, operand=x), *args)

    with around(expressions.Expressions, "_reduce", reduce):
        yield


@fault("a reference in autocast's dtype")
def _() -> Iterator[None]:
    with mock.patch.object(operators, "_without_autocast", lambda device: contextlib.nullcontext()):
        yield


@fault("a backward loses the gradient of its last argument")
def _() -> Iterator[None]:
    def found(old: Any, self: Any, *args: Any) -> Any:
        grads = old(self, *args)
        return {**grads, max(grads): None}

    with around(gradients.Backward, "gradients", found):
        yield


@fault("the rule for autocast forgotten")
def _() -> Iterator[None]:
    with mock.patch.object(operators, "cast", lambda kernel, args, rule, device: list(args)):
        yield


@fault("a false reason")
def _() -> Iterator[None]:
    false = Reason(text="it reads a tensor as a whole, not element by element", help="nothing")
    with (
        mock.patch.object(explanation, "_why_not_before", lambda *args: false),
        mock.patch.object(explanation, "_why_not_behind", lambda *args: false),
    ):
        yield


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The fault of that name, or none."""
    with ExitStack() as stack:
        if name is not None:
            stack.enter_context(FAULTS[name]())
        yield
