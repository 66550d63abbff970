"""Lets a call that writes to parts of a graph's argument write there, so that nothing else is copied.

    axpy(y.T[1], x)            %new = axpy(select(permute(y)), x)
    return y                   %all = permute(select_scatter(permute(y), %new))     the whole of y, made anew
                               copy_(y, %all)

                        ->     %new = axpy(select(permute(y)), x)
                               copy_(select(permute(y)), %new)                      which `axpy` can store itself

PyTorch's own pass, which comes next, does so where one scatter is all there is between an argument and the copy that
ends the graph. This one sees through views as well, and through several writes one after the other. That a node is the
argument but for one part is proven by where things lie: its views, undone, lead back to the argument as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true, sym_eq

from tdsl.lower.inductor.compat.dropped_clones import cloned_again
from tdsl.lower.inductor.compat.names import (
    CustomGraphModulePass,
    OutputType,
    V,
    get_hash_for_files,
    outputs_that_are,
    pytree,
)

aten = torch.ops.aten
PART = {aten.select_scatter.default: aten.select.int, aten.slice_scatter.default: aten.slice.Tensor}
# Those that Inductor takes for memory which it may write to. Of others, such as `view_as_real`, it makes a copy.
VIEWS = {
    *PART.values(),
    aten.alias.default,
    aten.permute.default,
    aten.reshape.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
}


@dataclass(frozen=True, kw_only=True)
class _View:
    target: Any
    rest: tuple[Any, ...]  # its arguments after the tensor
    kwargs: dict[str, Any]

    def of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The view of a fake tensor; None where that would be a copy."""
        rest, kwargs = fx.map_arg((self.rest, self.kwargs), lambda node: node.meta["val"])
        try:
            with V.fake_mode:
                made: torch.Tensor = self.target(tensor, *rest, **kwargs)
        except RuntimeError:  # what `view` says of a tensor that is not contiguous enough
            return None
        return made if made.untyped_storage()._cdata == tensor.untyped_storage()._cdata else None


@dataclass(frozen=True, kw_only=True)
class _Update:
    """A node that has the elements of `base`, but for one part."""

    base: fx.Node
    whole: torch.Tensor  # where in the base they are
    views: tuple[_View, ...]  # from the base to the part
    new: fx.Node  # what the part is now


class Reinplacing(CustomGraphModulePass):
    """The pass. It leaves graphs alone that have no template in them."""

    def __call__(self, gm: fx.GraphModule) -> None:
        if any(map(_is_call, gm.graph.nodes)):
            for copy in gm.graph.find_nodes(op="call_function", target=aten.copy_.default):
                if copy.args[0].op in ("placeholder", "get_attr"):
                    _reinplace(gm.graph, copy)

    def uuid(self) -> object:
        return get_hash_for_files((__file__,))


def _reinplace(graph: fx.Graph, copy: fx.Node) -> None:
    """Writes the parts of an argument that are new, in place of all of it, where nothing else is."""
    argument, node = copy.args
    assert isinstance(argument, fx.Node) and isinstance(node, fx.Node), "a tensor is copied to another"
    if not _may_be_returned(graph, node):
        return
    order = {node: at for at, node in enumerate(graph.nodes)}
    updates: list[tuple[fx.Node, _Update]] = []
    while node is not argument:
        update = _update(node, argument)
        if (
            update is None
            or not _alike(update.whole, _value(update.base))
            or not _alike(_value(node), _value(argument))
        ):
            return
        aliases = _aliases(update.base)
        if update.new in aliases or any(
            order[user] > order[node] for alias in aliases for user in alias.users if user is not copy
        ):
            return  # what was there is wanted afterwards
        updates.insert(0, (node, update))
        node = update.base
    calls = [call for _, update in updates if (call := _call_of(update.new)) is not None]
    if not calls or len(set(calls)) < len(calls):
        return  # of several parts that one kernel reads it can store none in place: better one copy than several
    for node, update in updates:
        target = argument
        with graph.inserting_before(node):
            for view in update.views:
                place = _viewed(_value(target), (view,))
                assert place is not None, "it is one of the base, which lies as the argument does"
                target = graph.call_function(view.target, (target, *view.rest), view.kwargs)
                target.meta["val"] = place
            graph.call_function(aten.copy_.default, (target, update.new)).meta["val"] = _value(target)
        node.replace_all_uses_with(argument)
        _erase(graph, node)
    copy.replace_all_uses_with(argument)
    graph.erase_node(copy)


def _may_be_returned(graph: fx.Graph, node: fx.Node) -> bool:
    """Whether an argument may take the place of `node` where the graph returns that, or a view of it. What the program
    returns as a clone of the argument is made one."""
    output = graph.output_node()
    returned = pytree.tree_leaves(output.args[0])
    clones = outputs_that_are(OutputType.non_alias)
    views = outputs_that_are(OutputType.alias_of_input, OutputType.is_input)  # made anew from the argument
    for alias in _aliases(node):
        for at in (at for at, value in enumerate(returned) if value is alias):
            if at in clones:
                returned[at] = cloned_again(graph, alias)
            elif at not in views:
                return False
    output.args = (tuple(returned),)  # as a flat one, which it has been
    return True


def _update(node: fx.Node, argument: fx.Node) -> _Update | None:
    """What a node changes of another one, which lies as the argument does; None if it does something else."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return None
    if _is_view(node):
        update = _update(source, argument)
        whole = None if update is None else _view(node).of(update.whole)
        return None if update is None or whole is None else replace(update, whole=whole)
    if node.target not in PART:
        return None
    views: tuple[_View, ...] = ()
    base = source
    while _is_view(base) and not _alike(_value(base), _value(argument)):
        views = (_view(base), *views)
        base = base.args[0]  # type: ignore[assignment]
    if _root(base) is argument:
        base = argument
    last = _View(target=PART[node.target], rest=node.args[2:], kwargs=node.kwargs)
    whole = _viewed(_value(base), views)
    place = _viewed(whole, (last,))
    if whole is None or place is None:
        return None
    new = node.args[1]
    assert isinstance(new, fx.Node), "what is scattered is a tensor"
    part = _update(new, argument)
    if part is not None and part.base is base and _alike(part.whole, place):
        return replace(part, whole=whole)
    return _Update(base=base, whole=whole, views=(*views, last), new=new)


def _viewed(tensor: torch.Tensor | None, views: Sequence[_View]) -> torch.Tensor | None:
    for view in views:
        tensor = None if tensor is None else view.of(tensor)
    return tensor


def _root(node: fx.Node) -> fx.Node:
    """What a node is a view of, itself if it is none."""
    while _is_view(node):
        node = node.args[0]  # type: ignore[assignment]
    return node


def _aliases(node: fx.Node) -> list[fx.Node]:
    """A node and all views of it, of whatever kind."""
    found = [node]
    for alias in found:
        found += [
            user for user in alias.users if getattr(user.target, "is_view", user.target is operator.getitem)
        ]
    return found


def _alike(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Whether two fake tensors, if of one storage, are one."""
    if a is None or b is None:
        return False
    mine = (*a.shape, *a.stride(), a.storage_offset())
    its = (*b.shape, *b.stride(), b.storage_offset())
    return a.dtype == b.dtype and a.dim() == b.dim() and bool(statically_known_true(sym_eq(mine, its)))


def _value(node: fx.Node) -> torch.Tensor | None:
    value = node.meta.get("val")
    return value if isinstance(value, torch.Tensor) else None


def _is_view(node: fx.Node) -> bool:
    return node.target in VIEWS


def _view(node: fx.Node) -> _View:
    return _View(target=node.target, rest=node.args[1:], kwargs=node.kwargs)


def _is_call(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "tdsl"


def _call_of(node: fx.Node) -> fx.Node | None:
    """The template call that has made a node, or what it is a view of."""
    while _is_view(node) or node.target is operator.getitem:
        node = node.args[0]  # type: ignore[assignment]
    return node if _is_call(node) else None


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Takes out views and scatters that nobody uses any more."""
    if not node.users and (_is_view(node) or node.target in PART):
        sources = node.all_input_nodes
        graph.erase_node(node)
        for source in sources:
            _erase(graph, source)
