"""Puts the loops of pointwise work into the order of the tensor that it shares with a template call.

    x: [37, 70] with strides (1, 37)    sigmoid(x): loops (70, 37), as x lies in memory
    matmul(sigmoid(x), ...)             sigmoid(x): loops (37, 70), as the load point counts

    o: [2, 3, 13, 8], b h s d           o.transpose(1, 2).flatten(2).relu(): loops (2, 13, 24)
    o = attention(...)                  the same: loops (2, 3, 13, 8), its 24 being h * 8 + d

The scheduler fuses only what walks a tensor in one order, by loops whose lengths it knows to be the same,
and reorders nothing around a template. The pass runs before each round of its fusions, in which nodes that were
fused in the last one are one. Whether two are then fused is still its decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tdsl.lower.inductor.buffer import TemplateCall
from tdsl.lower.inductor.compat.names import (
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
from tdsl.lower.inductor.compat.uncounted_bytes import note_likely_bytes
from tdsl.lower.inductor.explanation import obstacle


def prepare_round(nodes: Sequence[BaseSchedulerNode]) -> Callable[[], bool]:
    """The pass, on all nodes that may be fused with each other next. Loops stay as they are where nothing will come of
    it: the node may be fused with others that have the same. Gives what puts back, after the round, the loops of what
    was not fused after all, and says whether there was any."""
    scheduler = V.graph.scheduler
    before: dict[BaseSchedulerNode, list[tuple[SchedulerNode, LoopBody]]] = {}

    def match(node: BaseSchedulerNode, buffer: str, layout: Layout) -> None:
        parts = [part for part in node.get_nodes() if isinstance(part, SchedulerNode)]
        before.setdefault(node, [(part, part._body) for part in parts if not part.is_template()])
        match_loops(node, buffer, layout)

    def put_back() -> bool:
        apart = [node for node in before if scheduler.name_to_fused_node[node.get_first_name()] is node]
        changed = [node for node in apart if any(part._body is not body for part, body in before[node])]
        for node in changed:
            for part, body in before[node]:
                replace_loops(part, body)
            _note_new_loops(node)
        return bool(changed)

    for node in nodes:
        call = node.get_template_node()
        if not isinstance(call, TemplateCall):
            continue
        for tensor in call.tensors.values():
            buffer = scheduler.name_to_buf.get(tensor.get_name())
            if buffer is not None and tensor.get_name() in call.fusable_inputs:
                producer = scheduler.name_to_fused_node[buffer.defining_op_name()]
                if not _is_for(node, producer):
                    continue
                for dep in producer.read_writes.writes:
                    note_likely_bytes(dep)
                if obstacle(producer, node) is None:
                    match(producer, tensor.get_name(), tensor.get_layout())
                    # Its loops may be others now.
                    for dep in producer.read_writes.writes:
                        note_likely_bytes(dep)
                # The scheduler keeps out of a template what reads much, or calculates in f32, unless it is one of
                # these. What a prologue costs is for `cost` to say, which the scheduling asks.
                V.graph.invoke_quant_ops |= producer.get_operation_names()
        for name, param in call.epilogue_fusable_outputs.items():
            for user in scheduler.name_to_buf[name].users:
                if isinstance(user.node, BaseSchedulerNode):
                    consumer = scheduler.name_to_fused_node[user.node.get_name()]
                    if _may_follow(node, consumer):
                        match(consumer, name, call.results[param].layout)
    return put_back


def _is_for(node: BaseSchedulerNode, producer: BaseSchedulerNode) -> bool:
    """Whether nobody but the call in `node` reads what `producer` makes: else it is in memory anyway."""
    if producer.is_template() or producer.is_reduction():
        return False
    inside, last = producer.get_nodes(), producer.get_nodes()[-1]
    return all(
        user.node in inside or (part is last and user.node in node.get_nodes())
        for part in inside
        for buffer in part.get_outputs()
        for user in buffer.users
    )


def _may_follow(node: BaseSchedulerNode, consumer: BaseSchedulerNode) -> bool:
    """Whether a consumer may go behind the call in `node`, once its loops are the call's."""
    if consumer.is_template() or consumer.is_reduction():
        return False
    scheduler, before = V.graph.scheduler, node.get_operation_names()
    call = node.get_template_node()
    assert isinstance(call, TemplateCall), "asked of template calls"
    made = node.get_buffer_names() | set(call.result_buffers.values())
    others = {dep.name for dep in consumer.unmet_dependencies if dep.name in scheduler.name_to_buf} - made
    operations = [scheduler.name_to_buf[name].defining_op_name() for name in others]
    if any(before & scheduler.name_to_fused_node[name].ancestors for name in operations):
        return False  # another kernel has to run between the two
    if scheduler.will_fusion_create_cycle(node, consumer):
        return False
    # In place, a place is only seen to be the same in the same loops.
    return consumer.has_aliasing_or_mutation() or obstacle(node, consumer) is None


def match_loops(node: BaseSchedulerNode, buffer: str, layout: Layout) -> None:
    """Give `node`, which reads or writes all of `buffer`, one loop for each dimension of `layout`, in order.

    Leaves a node alone whose loops do not, in whatever order, walk the buffer: each one a dimension, a part of one, or
    several one inside the other.
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
    else:
        straight = _walks_through(index, lengths, wanted)
        if straight and _are_seen(node, lengths, wanted):
            return
        if (digits := _digits(index, lengths, wanted)) is not None:
            split = _of_digits(len(lengths), digits)
        elif straight:
            split = _through(lengths, wanted)
        else:
            return
        for part in parts:
            _walk(part, wanted, split)
    _note_new_loops(node)


def _note_new_loops(node: BaseSchedulerNode) -> None:
    parts = [part for part in node.get_nodes() if isinstance(part, SchedulerNode)]
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
        inner = [pair for pair in rest if _same(pair[1], step)]
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


Old = Callable[[Sequence[sympy.Expr]], list[sympy.Expr]]  # the old loops' indices, of the new ones'


def _through(lengths: Sequence[sympy.Expr], wanted: Sequence[tuple[sympy.Expr, sympy.Expr]]) -> Old:
    def old(indices: Sequence[sympy.Expr]) -> list[sympy.Expr]:
        flat = sympy_dot(indices, [stride for _, stride in wanted])
        # The first needs no remainder, by which a length that is equal by a guard only would come in.
        return [
            FloorDiv(flat, stride) if at == 0 else ModularIndexing(flat, stride, size)
            for at, (size, stride) in enumerate(zip(lengths, _contiguous(lengths), strict=True))
        ]

    return old


@dataclass(frozen=True, kw_only=True)
class _Digit:
    """A part of a loop, as a digit is one of a number: of loop `loop` it is i // unit % size. Each step of it is `step`
    elements of the tensor. Of the tensor's dimension `dimension` it is j // its_unit % size."""

    loop: int
    unit: sympy.Expr
    size: sympy.Expr
    step: sympy.Expr
    dimension: int = 0
    its_unit: sympy.Expr = sympy.S.One


def _digits(
    index: sympy.Expr, lengths: Sequence[sympy.Expr], wanted: Sequence[tuple[sympy.Expr, sympy.Expr]]
) -> list[_Digit] | None:
    """What the loops and the tensor's dimensions are both made up of; None if that is nothing."""
    rest = _digits_of_loops(index, lengths)
    if rest is None:
        return None
    found: list[_Digit] = []
    # How far each dimension is made up. One may wait for another, whose first part is cut off the digit that both share.
    units = [sympy.S.One] * len(wanted)
    while open_ := [at for at, (size, _) in enumerate(wanted) if not _same(units[at], size)]:
        steps = [wanted[at][1] * units[at] for at in open_]
        ready = [(at, d) for at, step in zip(open_, steps, strict=True) for d in rest if _same(d.step, step)]
        # Two for one place: which of them is of one element, or none, is not known.
        if not ready or len({at for at, _ in ready}) != len(ready):
            return None
        at, digit = ready[0]
        rest.remove(digit)
        left = _over(wanted[at][0], units[at])
        if not _same(left, digit.size) and (outer := _over(digit.size, left)).is_integer:
            # It goes on in another dimension.
            rest.append(replace(digit, unit=digit.unit * left, size=outer, step=digit.step * left))
            digit = replace(digit, size=left)
        elif not _over(left, digit.size).is_integer:
            return None
        found.append(replace(digit, dimension=at, its_unit=units[at]))
        units[at] = units[at] * digit.size
    return found if not rest else None


def _digits_of_loops(index: sympy.Expr, lengths: Sequence[sympy.Expr]) -> list[_Digit] | None:
    """The loops, each divided where the index divides it."""
    loops = {_loop(at): at for at in range(len(lengths))}
    terms: dict[sympy.Expr, sympy.Expr] = {}
    for term in sympy.Add.make_args(sympy.expand(_by_loops(index, lengths))):
        step, part = term.as_independent(*loops, as_Add=False)
        terms[part] = terms.get(part, 0) + step
    found = []
    for part, step in terms.items():
        symbol = part.args[0] if isinstance(part, FloorDiv | ModularIndexing) else part
        if symbol not in loops:
            return None
        at = loops[symbol]
        unit = part.args[1] if part is not symbol else sympy.S.One
        size = part.args[2] if isinstance(part, ModularIndexing) else _over(lengths[at], unit)
        found.append(_Digit(loop=at, unit=unit, size=size, step=step))
    for at, length in enumerate(lengths):
        mine, unit = [digit for digit in found if digit.loop == at], sympy.S.One
        while mine:
            next_ = [digit for digit in mine if _same(digit.unit, unit)]
            if len(next_) != 1 or not next_[0].size.is_integer:
                return None
            mine.remove(next_[0])
            unit = unit * next_[0].size
        if not _same(unit, length):
            return None
    return found


def _by_loops(index: sympy.Expr, lengths: Sequence[sympy.Expr]) -> sympy.Expr:
    """With a remainder of two loops, one inside the other, as one of the outer loop."""

    def of_outer(part: sympy.Expr) -> sympy.Expr:
        base, unit, size = part.args
        for inner, length in enumerate(lengths):
            outer = sympy.expand(base - _loop(inner)) / length
            if outer.is_Symbol and (unit / length).is_integer:
                return ModularIndexing(outer, unit / length, size)
            if outer.is_Symbol and unit == 1 and (size / length).is_integer:
                return length * ModularIndexing(outer, unit, size / length) + _loop(inner)
        return part

    return index.replace(lambda part: isinstance(part, ModularIndexing), of_outer, simultaneous=False)


def _of_digits(count: int, digits: Sequence[_Digit]) -> Old:
    def old(indices: Sequence[sympy.Expr]) -> list[sympy.Expr]:
        loops = [sympy.S.Zero] * count
        several = Counter(digit.dimension for digit in digits)
        for digit in digits:
            part = indices[digit.dimension]
            if several[digit.dimension] > 1:
                part = ModularIndexing(part, digit.its_unit, digit.size)
            loops[digit.loop] += part * digit.unit
        return loops

    return old


def _over(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
    """A quotient; of sums, too, the one that is their factor where there is one."""
    found = a / b
    return found if found.is_integer else sympy.cancel(sympy.expand(a) / sympy.expand(b))


def _same(a: sympy.Expr, b: sympy.Expr) -> bool:
    return bool(sympy.expand(a - b) == 0)


def _walk(node: SchedulerNode, wanted: Sequence[tuple[sympy.Expr, sympy.Expr]], split: Old) -> None:
    """Replace the loops of `node` by those of a tensor, one for each dimension."""
    old = node._body
    sizes: list[list[sympy.Expr]] = [[size for size, _ in wanted], []]

    def body(indices: Sequence[sympy.Expr], _: Sequence[sympy.Expr]) -> object:
        return old(split(indices), [])

    # Traced, then copied: a body's own variables are all called p.
    variables, ranges = index_vars_no_squeeze(*sizes, prefix="t")
    traced = LoopBody(body, variables, ranges, *variables)
    traced.indexing_exprs = {
        name: _divided(expr, traced.var_ranges) for name, expr in traced.indexing_exprs.items()
    }
    variables, ranges = index_vars_no_squeeze(*sizes, prefix="p")
    replace_loops(node, LoopBody(traced, variables, ranges, *variables))


def _divided(expr: sympy.Expr, ranges: Mapping[sympy.Symbol, sympy.Expr]) -> sympy.Expr:
    """(j * size + i) // size as j, and its remainder as i, where i runs up to `size`: Inductor does not see it (2.13) if the
    size is a quotient, or a sum."""

    def parts(base: sympy.Expr, unit: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
        """How many whole units there are, and what is left."""
        whole, rest = sympy.S.Zero, sympy.expand(base)
        for index in sorted(base.free_symbols & ranges.keys(), key=str):
            step = rest.coeff(index)
            if (times := _over(step, unit)).is_integer:
                whole += index * times
                rest = sympy.expand(rest - index * step)
        return whole, rest

    def divided(part: sympy.Expr) -> sympy.Expr:
        base, unit, *size = part.args
        if size and unit != 1:
            return part
        whole, rest = parts(base, *(size or [unit]))
        if rest == 0 or (rest in ranges and _same(ranges[rest], *(size or [unit]))):
            return rest if size else whole
        return part

    return expr.replace(
        lambda part: (
            isinstance(part, FloorDiv | ModularIndexing) and bool(part.args[0].free_symbols & ranges.keys())
        ),
        divided,
        simultaneous=False,
    )
