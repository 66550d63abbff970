"""Puts the loops of pointwise work into the order of the tensor that it shares with a template call.

    x: [37, 70] with strides (1, 37)    sigmoid(x): loops (70, 37), as x lies in memory
    matmul(sigmoid(x), ...)             sigmoid(x): loops (37, 70), as the load point counts

The scheduler fuses only what walks a tensor in one order, by loops whose lengths it knows to be the same,
and reorders nothing around a template. Whether the two are then fused is still its decision.
"""

from __future__ import annotations

from collections.abc import Sequence

from tdsl.lower.inductor.private import (
    BaseSchedulerNode,
    FloorDiv,
    FusedSchedulerNode,
    Layout,
    LoopBody,
    ModularIndexing,
    SchedulerNode,
    V,
    index_vars_no_squeeze,
    inductor_config,
    refresh_group_node_dependencies,
    replace_loops,
    sympy,
    sympy_dot,
    sympy_product,
)


def follow(node: BaseSchedulerNode, buffer: str, layout: Layout) -> None:
    """Give `node`, which reads or writes all of `buffer`, one loop for each dimension of `layout`, in order.

    Leaves a node alone whose loops do not walk the buffer dimension by dimension, or from its start to its
    end.
    """
    parts = [part for part in node.get_nodes() if isinstance(part, SchedulerNode)]
    if len(parts) != len(node.get_nodes()) or node.is_reduction() or node.is_template():
        return
    simplify = V.graph.sizevars.simplify
    lengths = [simplify(size) for size in parts[0]._sizes[0]]
    if any(part._sizes != parts[0]._sizes for part in parts):
        return
    index = _index(parts, buffer)
    if index is None:
        return
    pairs = zip(map(simplify, layout.size), map(simplify, layout.stride), strict=True)
    wanted = [(size, stride) for size, stride in pairs if size != 1]
    order = _order(index, lengths, wanted)
    if order is not None:
        if order == sorted(order):
            return
        for part in parts:
            part.apply_new_loop_order(order)
    elif _walks_through(index, lengths, wanted) and not _are_seen(node, lengths, wanted):
        for part in parts:
            _walk(part, wanted)
    else:
        return
    for part in parts:
        # Spelled as a call's own reads and writes are.
        device = part.get_device()
        assert device is not None, "pointwise work is on a device"
        merged = device.type == "cpu" or not inductor_config.loop_ordering_after_fusion
        part.refresh_dependencies(normalize=merged, need_clear_tiling_cache=True)
        part.group = (device, V.graph.scheduler.get_backend(device).group_fn(part._sizes))
    if isinstance(node, FusedSchedulerNode):
        node.group = parts[0].group
        refresh_group_node_dependencies(node)


def _index(parts: Sequence[SchedulerNode], buffer: str) -> sympy.Expr | None:
    """Where in the buffer the nodes are, all of them, in terms of `_loop(0)`, `_loop(1)`, ..."""
    found = set()
    for part in parts:
        body = part._body
        names = {var: _loop(at) for at, var in enumerate(body.iter_vars)}
        for index in (*body.get_all_read_expr(buffer), *body.get_all_write_expr(buffer)):
            found.add(sympy.expand(V.graph.sizevars.simplify(index).xreplace(names)))
    return found.pop() if len(found) == 1 else None


def _loop(at: int) -> sympy.Symbol:
    return sympy.Symbol(f"loop{at}", integer=True, nonnegative=True)


def _order(
    index: sympy.Expr, lengths: Sequence[sympy.Expr], wanted: Sequence[tuple[sympy.Expr, sympy.Expr]]
) -> list[int] | None:
    """For each dimension of the tensor that is longer than one, the loop that walks it."""
    loops = [(size, index.coeff(_loop(at))) for at, size in enumerate(lengths)]
    steps = sum(_loop(at) * step for at, (_, step) in enumerate(loops))
    if sympy.expand(index - steps) != 0 or len(set(wanted)) != len(wanted):
        return None
    if len(loops) != len(wanted) or not set(wanted) <= set(loops):
        return None
    return [loops.index(pair) for pair in wanted]


def _walks_through(
    index: sympy.Expr, lengths: Sequence[sympy.Expr], wanted: Sequence[tuple[sympy.Expr, sympy.Expr]]
) -> bool:
    """Whether the loops walk memory from start to end, as the tensor fills it."""
    strides = _contiguous(lengths)
    flat = sympy.expand(sum(_loop(at) * stride for at, stride in enumerate(strides)))
    mine, its = sympy_product(lengths), sympy_product(size for size, _ in wanted)
    if sympy.expand(index - flat) != 0 or not V.graph.sizevars.statically_known_equals(mine, its):
        return False
    rest, step = list(wanted), sympy.S.One
    while rest:
        inner = [pair for pair in rest if pair[1] == step]
        if len(inner) != 1:
            return False
        rest.remove(inner[0])
        step = step * inner[0][0]
    return True


def _are_seen(
    node: BaseSchedulerNode, lengths: Sequence[sympy.Expr], wanted: Sequence[tuple[sympy.Expr, sympy.Expr]]
) -> bool:
    """Whether the scheduler sees that loops which walk through the tensor are the tensor's. Not where its
    dimensions are in another order, or the product of the lengths is known to be the same by a guard only:
    it compares how they are spelled. Nor, of what is written in place on a GPU, where dimensions are merged."""
    sizes = [size for size, _ in wanted]
    in_order = [stride for _, stride in wanted] == _contiguous(sizes)
    if node.has_aliasing_or_mutation() and lengths != sizes:
        return False
    return in_order and sympy_product(lengths) == sympy_product(sizes)


def _contiguous(lengths: Sequence[sympy.Expr]) -> list[sympy.Expr]:
    return [sympy_product(lengths[at + 1 :]) for at in range(len(lengths))]


def _walk(node: SchedulerNode, wanted: Sequence[tuple[sympy.Expr, sympy.Expr]]) -> None:
    """Replace the loops of `node` by those of a tensor that fills memory as the old ones walk it."""
    old, lengths = node._body, node._sizes[0]
    sizes: list[list[sympy.Expr]] = [[size for size, _ in wanted], []]

    def body(indices: Sequence[sympy.Expr], _: Sequence[sympy.Expr]) -> object:
        flat = sympy_dot(indices, [stride for _, stride in wanted])
        # The first needs no remainder, by which a length that is equal by a guard only would come in.
        split = [
            FloorDiv(flat, stride) if at == 0 else ModularIndexing(flat, stride, size)
            for at, (size, stride) in enumerate(zip(lengths, _contiguous(lengths), strict=True))
        ]
        return old(split, [])

    # Traced, then copied: a body's own variables are all called p.
    variables, ranges = index_vars_no_squeeze(*sizes, prefix="t")
    traced = LoopBody(body, variables, ranges, *variables)
    variables, ranges = index_vars_no_squeeze(*sizes, prefix="p")
    replace_loops(node, LoopBody(traced, variables, ranges, *variables))
