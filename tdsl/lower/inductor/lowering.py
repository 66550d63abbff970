"""Lowers a call of a template in a compiled graph to a `TemplateCall`.

    %c = tdsl.matmul.d1f0(%a, %b)    ->    inputs realized, sizes bound, Triton source emitted, TemplateCall

The operator's schema order is the template's parameter order, so an argument is found by its name. What is
wrong with a call was said when the graph was traced (the operator's meta function); here all is well formed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

import tdsl.lower
from tdsl import ir
from tdsl.ir import Kernel
from tdsl.lower.facts.binding import Binding, TensorArg
from tdsl.lower.facts.extents import Arithmetic, Signed
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.bindings import Sizes, index_dtype
from tdsl.lower.inductor.buffer import Result, TemplateCall
from tdsl.lower.inductor.compat.names import (
    BaseView,
    ExpandView,
    ExternKernel,
    FixedLayout,
    IRNode,
    Pointwise,
    StorageBox,
    TemplateBuffer,
    TensorBox,
    V,
    lowerings,
    sympy,
    sympy_product,
)
from tdsl.lower.inductor.compat.strides_of_nothing import as_products
from tdsl.lower.inductor.kernel.generation import make_kernel_render
from tdsl.lower.inductor.launch import static_sizes
from tdsl.lower.inductor.tuning import budget_of

Argument = Any  # a TensorBox, a sympy expression, a number, a string or None


def lower_call(
    kernel: Kernel, arguments: Mapping[str, Argument], values: Sequence[Any], f32_precision: str
) -> list[TensorBox]:
    """Adds one call of `kernel` to the graph being lowered.

    `arguments` are Inductor's, by parameter; `values` are the fake tensors that the meta function made: of
    the outputs, then of the new values of `inout` parameters. Returns them as Inductor's.
    """
    inout = [param for param in kernel.params if isinstance(param, ir.Tensor) and param.inout]
    boxes = {
        param.name: box
        for param in kernel.params
        if isinstance(param, ir.Tensor) and (box := arguments.get(param.name)) is not None
    }
    results = [
        Result(param=param.name, layout=_layout_of(value), inout=param in inout)
        for param, value in zip([*kernel.outputs, *inout], values, strict=True)
    ]
    if all(_is_empty(result.layout.size) for result in results):
        return [_full(result.layout, 0) for result in results]
    nodes = {name: _realize(box) for name, box in boxes.items()}
    sizes = Sizes()
    _make_static(kernel, nodes, sizes)
    binding = _bind(kernel, arguments, nodes, results, sizes, f32_precision)
    source = tdsl.lower.lower(kernel, binding)
    if all(config.grid == 0 for config in source.configs):
        return [_full(result.layout, 0) for result in results]
    # An `inout` tensor that is stored and never loaded: what was there need not be computed.
    read = {node.param for node in kernel.nodes if isinstance(node, ir.Load)}
    read |= {name for name in nodes if name not in {param.name for param in inout}}
    call = TemplateCall(
        kernel=kernel,
        source=source,
        tensors={name: node for name, node in nodes.items() if name in read},
        results=results,
        size_arguments=sizes.arguments,
        size_hints=sizes.hints,
        make_kernel_render=make_kernel_render,
    )
    made = call.boxes()
    return [made[result.param] for result in results]


def _bind(
    kernel: Kernel,
    arguments: Mapping[str, Argument],
    nodes: Mapping[str, IRNode],
    results: Sequence[Result],
    sizes: Sizes,
    f32_precision: str,
) -> Binding:
    tensors: dict[str, TensorArg | None] = {}
    scalars: dict[str, int | float | bool | str | Signed | Arithmetic] = {}
    consts: dict[str, int | float | bool | str] = {}
    for param in kernel.params:
        value = arguments.get(param.name)
        match param:
            case ir.Tensor():
                tensors[param.name] = sizes.tensor(nodes[param.name]) if param.name in nodes else None
            case ir.Scalar():
                scalars[param.name] = _scalar(value, sizes)
            case ir.Const():
                assert not isinstance(value, TensorBox) and value is not None, "a constant is a plain value"
                consts[param.name] = _plain(value)
    for result in results:
        if not result.inout:
            tensors[result.param] = TensorArg(
                dtype=dtypes.NAMES[result.layout.dtype],
                shape=tuple(map(sizes.extent, result.layout.size)),
                strides=tuple(map(sizes.extent, result.layout.stride)),
            )
    return Binding(
        tensors=tensors,
        scalars=scalars,
        consts=consts,
        hints=sizes.hints,
        # An integer that arrives at run time is of any size, and Inductor counts it among the sizes.
        index_dtype="i64"
        if any(
            not isinstance(scalars[p.name], int) and p.type == "int"
            for p in kernel.params
            if isinstance(p, ir.Scalar)
        )
        else index_dtype(
            [*(node.get_layout() for node in nodes.values()), *(result.layout for result in results)]
        ),
        f32_precision=f32_precision,
        budget=budget_of(results[0].layout.device),
    )


def _scalar(value: Any, sizes: Sizes) -> int | float | bool | str | Signed | Arithmetic:
    if isinstance(value, sympy.Expr):
        if value.is_Integer or value.is_Float:
            return _plain(value)
        if value.is_integer:
            return sizes.scalar(value)
        assert value.is_Symbol, "Inductor computes a float on the host and names it"
        return sizes.symbol(value)
    assert isinstance(value, int | float), "the meta function has seen a number"
    return value


def _plain(value: Any) -> int | float | bool | str:
    if isinstance(value, sympy.Expr):
        return int(value) if value.is_integer else float(value)
    assert isinstance(value, int | float | str), "the meta function has seen a constant"
    return value


def _realize(box: TensorBox) -> IRNode:
    if _shows_pointwise_work(box):
        # Computed as it is seen, it can move into the kernel; as a tensor of its own, which is looked at in
        # part, it could not.
        box = ExternKernel.copy_input(box)
    node = TemplateBuffer.realize_template_input(box)
    base = V.graph.get_buffer(node.get_name())
    if node.get_dtype() != base.get_dtype() and node.get_layout().offset != 0:
        # The offset of a view as another dtype counts in whose elements? Not worth knowing.
        node = TemplateBuffer.realize_template_input(ExternKernel.copy_input(box))
    return node


def _shows_pointwise_work(box: TensorBox) -> bool:
    """Whether a box is a view, no element of it twice, of pointwise work that has no memory yet."""
    view = box.data
    if not isinstance(view, BaseView):
        return False
    while isinstance(view, BaseView):
        if isinstance(view, ExpandView):
            return False
        view = view.data
    return isinstance(view, StorageBox) and isinstance(view.data, Pointwise)


def _make_static(kernel: Kernel, nodes: Mapping[str, IRNode], sizes: Sizes) -> None:
    """Guards the sizes that the kernel's text must know to be what they are now."""
    for name, axis in tdsl.lower.static_axes(kernel):
        node = nodes.get(name)
        tensor = kernel.tensor(name)
        if node is None:
            continue
        for size in static_sizes(tensor, axis, node.get_size()):
            sizes.guard(size)


def _layout_of(fake: Any) -> FixedLayout:
    strides = [as_products(_expr(stride)) for stride in fake.stride()]
    return FixedLayout(fake.device, fake.dtype, list(map(_expr, fake.shape)), strides)


def _expr(size: Any) -> sympy.Expr:
    return V.graph.sizevars.simplify(sympy.sympify(size.node.expr if hasattr(size, "node") else size))


def _is_empty(size: Sequence[sympy.Expr]) -> bool:
    return bool(V.graph.sizevars.statically_known_equals(sympy_product(size), 0))


def _full(layout: FixedLayout, value: int) -> TensorBox:
    full = lowerings[torch.ops.aten.full.default]
    return full(layout.size, value, dtype=layout.dtype, device=layout.device)  # type: ignore[no-any-return]
