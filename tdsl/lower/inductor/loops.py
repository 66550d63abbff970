"""Puts the loops of pointwise work into the order of the tensor that it shares with a template call.

    x: [37, 70] with strides (1, 37)    sigmoid(x): loops (70, 37), as x lies in memory
    matmul(sigmoid(x), ...)             sigmoid(x): loops (37, 70), as the load point counts

The scheduler fuses only what walks a tensor in one order, and reorders nothing around a template. Whether
the two are then fused is still its decision.
"""

from __future__ import annotations

from tdsl.lower.inductor.private import (
    BaseSchedulerNode,
    FusedSchedulerNode,
    Layout,
    MemoryDep,
    SchedulerNode,
    V,
    refresh_group_node_dependencies,
    sympy,
)


def follow(node: BaseSchedulerNode, buffer: str, layout: Layout) -> None:
    """Reorder the loops of `node`, which reads or writes all of `buffer`, to walk it dimension by dimension.

    Leaves a node alone that does not reach the buffer by one loop per dimension.
    """
    parts = [part for part in node.get_nodes() if isinstance(part, SchedulerNode)]
    if len(parts) != len(node.get_nodes()) or node.is_reduction() or node.is_template():
        return
    order = _order(node, buffer, layout)
    if order is None or order == sorted(order):
        return
    if any(part._sizes != parts[0]._sizes or len(part._sizes[0]) != len(order) for part in parts):
        return
    for part in parts:
        part.apply_new_loop_order(order)
        device = part.get_device()
        assert device is not None, "pointwise work is on a device"
        part.group = (device, V.graph.scheduler.get_backend(device).group_fn(part._sizes))
    if isinstance(node, FusedSchedulerNode):
        node.group = parts[0].group
        refresh_group_node_dependencies(node)


def _order(node: BaseSchedulerNode, buffer: str, layout: Layout) -> list[int] | None:
    """For each dimension of the tensor that is longer than one, the loop of `node` that walks it."""
    found = {dep for dep in node.read_writes.reads_and_writes() if dep.name == buffer}
    if len(found) != 1:
        return None
    (dep,) = found
    if not isinstance(dep, MemoryDep):
        return None
    loops = [(dep.index.coeff(var), size) for var, size in zip(dep.var_names, dep.size, strict=True)]
    steps = sum(var * step for var, (step, _) in zip(dep.var_names, loops, strict=True))
    wanted = [pair for pair in zip(layout.stride, layout.size, strict=True) if pair[1] != 1]
    if sympy.expand(dep.index - steps) != 0 or sorted(map(str, loops)) != sorted(map(str, wanted)):
        return None
    return [loops.index(pair) for pair in wanted] if len(set(wanted)) == len(wanted) else None
