"""Puts calls of templates into a graph, in the place of what was found to mean the same.

v = x.float()                                          n = torch.ops.tdsl.rms_norm(x, w, 1e-6)
n = (v * rsqrt(v.square().mean(-1) + 1e-6) * w)   ->   y = relu(n)
y = relu(n)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add as _add
from operator import getitem
from operator import mul as _multiply
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import guard_or_false

from tdsl.lower.inductor.compat.names import sympy
from tdsl.replacement.recording import Reading, Value, is_switch
from tdsl.replacement.terms import Term


class CannotWriteError(Exception):
    """A value that the call would need cannot be had where the call would be. `match`: of which call."""

    match: Match | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """A call of `op`, and the values that its outputs take the place of (None: of nothing). The arguments are values,
    views of values as terms, and numbers."""

    op: torch._ops.OpOverload
    arguments: Mapping[str, Any]
    roots: tuple[Value | None, ...]
    at: int  # the node in whose place the call is
    device: torch.device
    stopped: bool  # whether it is where gradients are off


class Rewriting:
    """Of one graph, whose nodes are changed while it goes from the first match to the last."""

    def __init__(self, reading: Reading, *, keep_strides: bool) -> None:
        self.reading, self.keep_strides = reading, keep_strides
        self.graph: fx.Graph = reading.module.graph  # type: ignore[assignment]
        self.returned = _leaves(reading.nodes[-1])
        self.node_of = dict(reading.node_of)
        self._order = {node: at for at, node in enumerate(reading.nodes)}
        self._holding: dict[int, list[fx.Node]] = {}
        for node, result in reading.results.items():
            if isinstance(result, torch.Tensor):
                self._holding.setdefault(id(result), []).append(node)
        self.added: list[fx.Node] = []
        self.moved: list[tuple[fx.Node, fx.Node, list[fx.Node]]] = []  # old, new, who reads it
        self._had_users = {node for node in reading.nodes if node.users}
        self._by_term: dict[Term, list[Value]] = {}
        self._by_base: dict[Term, list[Value]] = {}
        for value in reading.recorder.values:
            for term in dict.fromkeys((value.term, reading.recorder.terms.attached(value.term))):
                self._by_term.setdefault(term, []).append(value)
                self._by_base.setdefault(_base(term), []).append(value)

    def put(self, matches: Sequence[Match]) -> None:
        """Raises CannotWriteError, with some calls in place, where one cannot be."""
        for match in sorted(matches, key=lambda match: match.at):
            try:
                before = len(self.moved)
                self._replace(match)
                if len(self.moved) == before:
                    raise CannotWriteError("no node of the graph is its result")
            except CannotWriteError as error:
                error.match = match
                raise

    def _replace(self, match: Match) -> None:
        old = self.reading.nodes[match.at]
        with self.graph.inserting_before(old):
            self._at, self._match = match.at, match
            arguments = [self._argument(value) for value in match.arguments.values()]
            call = self._add(match.op, tuple(arguments))
            call.meta = {
                name: old.meta[name]
                for name in ("stack_trace", "nn_module_stack", "custom")
                if name in old.meta
            }
            several = len(match.op._schema.returns) > 1
            for index, root in enumerate(match.roots):
                if root is None:
                    continue
                made = self._add(getitem, (call, index)) if several else call
                self.node_of[root] = self._like(made, root)
            self._put_in_place(old, [root for root in match.roots if root is not None])
        for at in sorted({root.at for root in match.roots if root is not None} - {match.at}):
            node = self.reading.nodes[at]
            with self.graph.inserting_before(node):
                self._put_in_place(node, [root for root in match.roots if root is not None and root.at == at])

    def _put_in_place(self, old: fx.Node, roots: Sequence[Value]) -> None:
        """Gives what reads the results of `old` what was made of the new values."""
        result = self.reading.results[old]
        users = [old] if isinstance(result, torch.Tensor) else [user for user in old.users]
        for node in users:
            tensor = self.reading.results.get(node)
            if not isinstance(tensor, torch.Tensor):
                raise CannotWriteError(f"'{old}' gives several results, and not one by one")
            value = next(
                (
                    value
                    for value in reversed(self.reading.recorder.values)
                    if value.tensor is tensor and value.at == self._place(old)
                ),
                None,
            )
            if value is None:
                continue
            again: dict[Value, fx.Node] = {root: self.node_of[root] for root in roots}
            new = self._again(value, again)
            if new is None:
                continue
            self.node_of[value] = new
            readers = [user for user in node.users if user not in self.added]
            for reader in readers:
                reader.replace_input_with(node, new)
            self.moved.append((node, new, readers))

    def undo(self) -> None:
        """Makes the graph what it was."""
        for old, new, readers in reversed(self.moved):
            for reader in readers:
                reader.replace_input_with(new, old)
        for node in reversed(self.added):
            self.graph.erase_node(node)

    def finish(self) -> None:
        """Takes out what nobody reads any more."""
        for at, node in reversed(list(enumerate(self.reading.nodes))):
            plain = node in self._had_users and node not in self.reading.unread
            plain = plain and node.op in ("call_function", "call_method")
            if plain and not node.users and at not in self.reading.recorder.writing and not is_switch(node):
                self.graph.erase_node(node)

    def _add(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> fx.Node:
        node = self.graph.call_function(function, args, kwargs)
        self.added.append(node)
        return node

    def _place(self, node: fx.Node) -> int:
        return self._order[node]

    def _again(self, value: Value, made: dict[Value, fx.Node]) -> fx.Node | None:
        """The node of a value, made anew where it depends on what was replaced; None where it does not."""
        if value in made:
            return made[value]
        if value.made_by is None:
            return None
        _function, args, kwargs = value.made_by
        used = [each for each in _values((args, kwargs))]
        if not any(self._again(each, made) is not None for each in used):
            return None
        for each in used:
            if each in made:
                self.node_of[each] = made[each]
        made[value] = self._call(value)
        return made[value]

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Term):
            return self._term(argument)
        if isinstance(argument, Value):
            return self._node(argument)
        return self._number(argument)

    def _term(self, term: Term) -> fx.Node:
        same = (*self._by_term.get(term, ()), *self._by_base.get(_base(term), ()))
        # What a node holds is there; the rest would be calculated once more.
        for value in sorted(same, key=lambda value: self._holder(value) is None):
            if value.at > self._at or value.tensor.device != self._match.device:
                continue
            its = value.term
            # Where gradients are on, no value without one takes the place of one that has it.
            if self._match.stopped and _base(its) is not _base(term):
                its = self.reading.recorder.terms.attached(its)
            if _base(its) is not _base(term):
                continue
            try:
                node = self._node(value)
            except CannotWriteError:
                continue
            if its is term:
                return node
            return self._add(torch.reshape, (node, [self._number(size) for size in term.shape]))
        if term.op == "permute":
            return self._add(torch.permute, (self._term(term.args[0]), list(term.args[1])))
        raise CannotWriteError("one of its arguments is no tensor of the graph")

    def _node(self, value: Value) -> fx.Node:
        """The node of a value, before the place where the call is written."""
        if value.written is not None and value.written < self._at:
            raise CannotWriteError("one of its arguments is written to before the call")
        if (node := self._holder(value)) is not None:
            return node
        if value.made_by is None or (value.stopped and not self._match.stopped):
            raise CannotWriteError("one of its arguments is no tensor of the graph")
        self.node_of[value] = self._call(value)
        return self.node_of[value]

    def _holder(self, value: Value) -> fx.Node | None:
        """The node before the call whose result a value is. A node may give a tensor that others gave before, such as a
        cast to the dtype that it has."""
        nodes: list[fx.Node | None] = [self.node_of.get(value), *self._holding.get(id(value.tensor), ())]
        for node in nodes:
            if node is not None and self._order.get(node, -1) < self._at:
                return node
        return None

    def _call(self, value: Value) -> fx.Node:
        assert value.made_by is not None
        function, args, kwargs = value.made_by
        args, kwargs = _mapped(args, self._part), _mapped(kwargs, self._part)
        call = self._add(function, tuple(args), dict(kwargs))
        return call if value.item is None else self._add(getitem, (call, value.item))

    def _part(self, part: Any) -> Any:
        if isinstance(part, Value):
            return self._node(part)
        return self._number(part) if isinstance(part, torch.SymInt | torch.SymFloat) else part

    def _number(self, number: Any) -> Any:
        """A number, or the node that calculates it."""
        number = self.reading.recorder.terms.size(number)
        if not isinstance(number, sympy.Basic):
            return number
        if number.is_Float:
            return float(number)
        node = self.reading.numbers.get(number)
        if node is not None and self._place(node) <= self._at:
            return node
        found = self._size(number)
        if found is None:
            raise CannotWriteError(f"no number of the graph is {number}")
        return found

    def _size(self, number: sympy.Basic) -> fx.Node | None:
        """A size of a tensor that is there; else sums and products of those."""
        terms = self.reading.recorder.terms
        for value, node in self.node_of.items():
            if value.at < self._at and value.tensor is not None:
                for dim, size in enumerate(value.tensor.shape):
                    if terms.size(size) == number:
                        return self._add(torch.ops.aten.sym_size.int, (node, dim))
        if number.is_Add or number.is_Mul:
            function = _add if number.is_Add else _multiply
            first, *others = [self._number(arg) for arg in number.args]
            for other in others:
                first = self._add(function, (first, other))
            return first if isinstance(first, fx.Node) else None
        return None

    def _like(self, made: fx.Node, root: Value) -> fx.Node:
        """The output of a template in the shape, and if that is wanted in the strides, of what it takes the place of."""
        shape = root.tensor.shape
        if root.term.op == "view":
            made = self._add(torch.reshape, (made, [self._number(size) for size in shape]))
        if not self.keep_strides:
            return made
        strides = [self.reading.recorder.terms.size(stride) for stride in root.tensor.stride()]
        if not all(isinstance(stride, int) for stride in strides):
            return made
        order = sorted(range(len(shape)), key=lambda dim: -strides[dim])
        if order == list(range(len(shape))):
            return made
        back = [order.index(dim) for dim in range(len(shape))]
        permuted = self._add(torch.permute, (made, order))
        inner = self._add(torch.clone, (permuted,), {"memory_format": torch.contiguous_format})
        return self._add(torch.permute, (inner, back))


def _base(term: Term) -> Term:
    return term.args[0] if term.op == "view" else term


def _values(tree: Any) -> list[Value]:
    found: list[Value] = []
    _mapped(tree, lambda part: found.append(part) if isinstance(part, Value) else None)
    return found


def _mapped(tree: Any, function: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _mapped(value, function) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return (
            type(tree)(_mapped(value, function) for value in tree) if not hasattr(tree, "_fields") else tree
        )
    return function(tree)


def problem(reading: Reading, rewriting: Rewriting) -> str:
    """What is wrong with the graph as it is now: a call that cannot be run, or results of other strides."""
    env = dict(reading.results)
    returned = rewriting.returned
    changed: set[fx.Node] = set()
    added = set(rewriting.added)
    replaced = {new: old for old, new, _ in rewriting.moved}

    def is_other(node: fx.Node) -> bool:
        """Whether what reads a node now gets other strides than before."""
        old = replaced.get(node)
        return node in changed if old is None else not _like(env[node], reading.results[old])

    with torch.no_grad(), reading.switching(), reading.fake_mode:
        for node in rewriting.graph.nodes:
            if node.op == "output":
                for new, old in zip(_leaves(node), returned, strict=True):
                    if not _like(env[new], reading.results[old]):
                        return f"the strides of '{old}', which is returned, would be others"
                return ""
            if is_switch(node):
                reading.switch(node, *fx.node.map_arg((node.args, node.kwargs), env.__getitem__))
                continue
            if node not in added and changed.isdisjoint(node.all_input_nodes):
                continue
            if node not in added and (node in reading.unread or "as_strided" in str(node.target)):
                if any(map(is_other, node.all_input_nodes)):
                    return f"'{node}' would be given other strides"
                continue
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), env.__getitem__)
            try:
                result = (
                    getattr(args[0], node.target)(*args[1:], **kwargs)
                    if node.op == "call_method"
                    else node.target(*args, **kwargs)
                )
            except Exception as error:
                return f"'{node}' could not go on with it: {type(error).__name__}: {error}"
            if node not in added and _like(result, env[node]):
                continue
            env[node] = result
            changed.add(node)
            # What was a copy could be the same memory now, which matters where something is written.
            if node in replaced and reading.recorder.writing and is_other(node):
                return f"the strides of '{replaced[node]}' would be others, and the graph writes to tensors"
        return ""


def _like(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.dim() == other.dim() and one.device == other.device
        # A size may be known only when the program runs.
        return (
            same
            and all(guard_or_false(a == b) for a, b in zip(one.shape, other.shape, strict=True))
            and all(
                guard_or_false(size == 1) or guard_or_false(a == b)
                for a, b, size in zip(one.stride(), other.stride(), one.shape, strict=True)
            )
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return all(map(_like, one, other))
    return type(one) is type(other) and not isinstance(one, torch.Tensor)


def _leaves(output: fx.Node) -> list[fx.Node]:
    """The nodes that a graph returns, as often as it returns them."""
    found: list[fx.Node] = []
    fx.node.map_arg(output.args, lambda node: found.append(node))
    return found
