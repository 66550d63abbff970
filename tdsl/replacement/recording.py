"""Reads a graph of PyTorch's calls as terms, without changing it.

Each node of the graph is run on fake tensors. What it calls of ATen, some of it taken apart first, is a `Value`:
how it was made, of which node's work it is a part, and its term. A reference is read in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from tdsl.lower.inductor.compat.call_names import (
    TorchDispatchMode,
    has_meaning_of_its_own,
    tree_leaves,
    tree_map,
)
from tdsl.replacement.canonical import PRIMS, part_of, term_of
from tdsl.replacement.decompositions import DECOMPOSITIONS
from tdsl.replacement.terms import Term, Terms


@dataclass(eq=False)
class Value:
    """A tensor that a graph calculates.

    `made_by` is what calls ATen for it, with values for tensors: None for a graph's argument, and for what is not
    taken apart. `at` is the position of the node in whose work it is made; `written` of the one that overwrites it.
    `stopped`: made where gradients are off, so its term is one of `detach`.
    """

    term: Term
    tensor: torch.Tensor
    at: int
    made_by: tuple[Any, tuple[Any, ...], dict[str, Any]] | None = None
    item: int | None = None  # of a call with several results
    written: int | None = None
    stopped: bool = False


class Recorder(TorchDispatchMode):
    """Notes what is called while it is on. All tensors have to be fake ones.

    `stopping`: whether gradients are off; None: as PyTorch has it.
    """

    def __init__(self, terms: Terms, *, stopping: bool | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.terms, self.stopping = terms, stopping
        self.at = -1
        self.values: list[Value] = []
        self._of: dict[int, Value] = {}  # by the tensor's id
        self._kept: list[torch.Tensor] = []  # so that no id is used again
        self._sharing: dict[int, list[torch.Tensor]] = {}  # by the memory
        self._first: dict[int, int] = {}  # the position at which each memory was seen first
        self.writing: set[int] = set()  # the positions of nodes that write to what was there before

    def value(self, tensor: torch.Tensor) -> Value:
        """What is known of a tensor; of a new one, nothing."""
        found = self._of.get(id(tensor))
        return self.note(tensor, self.opaque(tensor)) if found is None else found

    def opaque(self, tensor: torch.Tensor) -> Term:
        return self.terms.leaf(self.terms.shape(tensor.shape), tensor.dtype)

    def note(self, tensor: torch.Tensor, term: Term, made_by: Any = None, item: int | None = None) -> Value:
        stopped = made_by is not None and self._stops()
        if stopped:
            term = self.terms.detached(term)
        value = Value(term, tensor, self.at, made_by, item, stopped=stopped)
        self.values.append(value)
        if id(tensor) not in self._of:
            self._kept.append(tensor)
            self._sharing.setdefault(_memory(tensor), []).append(tensor)
            self._first.setdefault(_memory(tensor), self.at)
        self._of[id(tensor)] = value
        return value

    def _stops(self) -> bool:
        return not torch.is_grad_enabled() if self.stopping is None else self.stopping

    def overwrite(self, tensor: torch.Tensor) -> None:
        """What is in a tensor's memory is not known any more."""
        memory = _memory(tensor)
        if self._first.get(memory, -1) < self.at:
            self.writing.add(self.at)
        for other in self._sharing.get(memory, ()):
            self._of[id(other)].written = self.at
            self.note(other, self.opaque(other))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        decomposition = DECOMPOSITIONS.get(func)
        if decomposition is not None:
            with self:
                return decomposition(*args, **kwargs)
        subclass = next(
            (type(arg) for arg in tree_leaves((args, kwargs)) if has_meaning_of_its_own(arg)), None
        )
        if subclass is not None:
            with self:
                return subclass.__torch_dispatch__(func, types, args, kwargs)
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor):
                self.value(value)
        result = func(*args, **kwargs)
        if func._schema.is_mutable:
            self._write(func, args, kwargs)
            return result
        made_by = tree_map(self._valued, (func, args, kwargs))
        several = isinstance(result, tuple | list)
        for index, tensor in enumerate(result if several else (result,)):
            if isinstance(tensor, torch.Tensor) and id(tensor) not in self._of:
                item = index if several else None
                self.note(tensor, self._term(func, args, kwargs, tensor, item), made_by, item)
        return result

    def _valued(self, arg: Any) -> Any:
        return self._of[id(arg)] if isinstance(arg, torch.Tensor) else arg

    def _write(self, func: Any, args: Any, kwargs: Any) -> None:
        """A call that writes: of its first argument alone it is what the call that returns would have made."""
        written = [
            args[index] if index < len(args) else kwargs.get(argument.name)
            for index, argument in enumerate(func._schema.arguments)
            if argument.is_write
        ]
        packet = getattr(torch.ops.aten, func._schema.name.removeprefix("aten::").rstrip("_"), None)
        name = func._overloadname
        tensors = [each for each in written if isinstance(each, torch.Tensor)]
        plain = len(written) == 1 and args and written[0] is args[0] and func.namespace == "aten"
        functional = (
            getattr(packet, name, None) if plain and name in getattr(packet, "overloads", list)() else None
        )
        term = made_by = None
        if functional is not None and functional._schema.arguments[0].name == "self":
            term = self._term(functional, args, kwargs, args[0], None)
            made_by = (functional, *tree_map(self._valued, (tuple(args), kwargs)))
        for tensor in tensors:
            self.overwrite(tensor)
        if term is not None:
            self.note(tensors[0], term, made_by)

    def _term(self, func: Any, args: Any, kwargs: Any, made: torch.Tensor, item: int | None) -> Term:
        # What is in memory where, a term does not say.
        strided = "as_strided" in func.__name__
        if torch.Tag.nondeterministic_seeded in func.tags or made.layout != torch.strided or strided:
            return self.opaque(made)
        packet, overload = str(func).removeprefix("aten.").rsplit(".", 1)
        terms_args, terms_kwargs = tree_map(self._argument, (tuple(args), dict(kwargs)))
        shape, dtype = self.terms.shape(made.shape), made.dtype
        # Arguments by name and by place are the same, and so are those that are not given.
        arguments = [argument for argument in func._schema.arguments if not argument.kwarg_only]
        placed, named = list(terms_args), dict(terms_kwargs)
        for argument in arguments[len(placed) :]:
            placed.append(named.pop(argument.name, argument.default_value))
        named = {name: value for name, value in named.items() if name not in _NO_MEANING}
        if func.namespace == "aten" and item is not None:
            found = part_of(self.terms, packet, placed, item, (shape, dtype))
            if found is not None:
                return found
        known = func.namespace == "aten" or (
            func.namespace == "prims" and func.__name__.partition(".")[0] in PRIMS
        )
        tensors = [made]
        tree_map(lambda arg: tensors.append(arg) if isinstance(arg, torch.Tensor) else None, (args, kwargs))
        complex_ = any(tensor.dtype.is_complex for tensor in tensors)
        if known and item is None and not complex_:
            packet = packet.removeprefix("prims.")
            found = term_of(self.terms, packet, placed, named, (shape, dtype))
            if found is not None:
                return found
        rest = tuple(sorted((name, _frozen(value)) for name, value in named.items()))
        return self.terms.make(
            f"{packet}.{overload}" if item is None else f"{packet}.{overload}[{item}]",
            (*_frozen(placed), rest),
            shape,
            dtype,
        )

    def _argument(self, arg: Any) -> Any:
        if not isinstance(arg, torch.Tensor):
            return self.terms.size(arg)
        term = self.value(arg).term
        return self.terms.attached(term) if self._stops() else term


_NO_MEANING = {"memory_format", "device", "pin_memory", "layout", "non_blocking"}


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return (
        value if isinstance(value, Term | int | float | bool | torch.dtype) or value is None else str(value)
    )


def _memory(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return -id(tensor)  # a subclass without memory of its own


@contextmanager
def recording(recorder: Recorder, fake_mode: Any) -> Iterator[None]:
    """Gradients are off: the graph's are in `Recorder.stopping`. Attention is read as what it means, products and a softmax,
    whichever kernel PyTorch would choose."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), fake_mode, recorder:
        yield


class Reading(fx.Interpreter):
    """What each node of a graph is: `results`."""

    def __init__(self, module: fx.GraphModule, recorder: Recorder, fake_mode: Any) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.recorder, self.fake_mode = recorder, fake_mode
        self.results: dict[fx.Node, Any] = {}
        self.nodes: list[fx.Node] = list(module.graph.nodes)
        self.node_of: dict[Value, fx.Node] = {}  # the node whose result a value is
        self.numbers: dict[Any, fx.Node] = {}  # the node that is a number which is not known yet
        self.unread: dict[fx.Node, str] = {}  # what could not be run, and why
        self.casting: list[bool] = []  # of each node, whether autocast is on
        self.used: list[Value] = []  # by what could not be run
        self._entered = ExitStack()
        self._levels = 0  # of transforms of `torch.func` that are open

    def read(self) -> None:
        """Runs every node."""
        with self.switching(), recording(self.recorder, self.fake_mode):
            for at, node in enumerate(self.nodes):
                self.recorder.at = at
                self.casting.append(any(map(torch.is_autocast_enabled, ("cpu", "cuda"))))
                if node.op == "output":
                    continue
                result = self.results[node] = self.env[node] = self._result(node)
                if isinstance(result, torch.Tensor):
                    self.node_of.setdefault(self.recorder.value(result), node)
                elif isinstance(result, torch.SymInt | torch.SymFloat):
                    self.numbers.setdefault(self.recorder.terms.size(result), node)

    def _result(self, node: fx.Node) -> Any:
        known = node.meta.get("example_value", node.meta.get("val"))
        if node.op == "placeholder":
            self._fake(known)
            return known
        if node.op == "get_attr":
            found = self.fetch_attr(str(node.target))
            if isinstance(found, torch.Tensor) and not isinstance(found, torch._subclasses.FakeTensor):
                return self.fake_mode.from_tensor(found)
            return found
        if is_switch(node):
            return self.switch(node, *self.fetch_args_kwargs_from_env(node))
        level = _level(node)
        self._levels += level
        try:
            if node.op == "call_function" and isinstance(node.target, torch._ops.HigherOrderOperator):
                raise NotImplementedError("an operator of higher order")
            if self._levels or level:
                raise NotImplementedError("within a transform of torch.func")
            return super().run_node(node)
        except Exception as error:
            self.unread[node] = f"{type(error).__name__}: {error}"
            if known is None and node.users:
                raise
            used = self._tensors(self.fetch_args_kwargs_from_env(node))
            self.used += map(self.recorder.value, used)
            for tensor in used:
                self.recorder.overwrite(tensor)  # it may have been written to
            self._fake(known)
            return known

    def _fake(self, known: Any) -> None:
        for tensor in self._tensors(known):
            self._open(tensor, self.recorder.note(tensor, self.recorder.opaque(tensor)))

    def _open(self, tensor: torch.Tensor, value: Value) -> None:
        """The tensors within one, such as the bytes and the scales of a quantised weight, can be had from it. Where
        it is to have a gradient they cannot: it would have none."""
        if has_meaning_of_its_own(tensor) and not tensor.requires_grad:
            for name in tensor.__tensor_flatten__()[0]:  # type: ignore[attr-defined]
                inner = getattr(tensor, name)
                made_by: Any = (getattr, (value, name), {})
                self._open(inner, self.recorder.note(inner, self.recorder.opaque(inner), made_by))

    def _tensors(self, tree: Any) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        tree_map(lambda leaf: found.append(leaf) if isinstance(leaf, torch.Tensor) else None, tree)
        return found

    @contextmanager
    def switching(self) -> Iterator[None]:
        """Leaves, at the end, what the graph has entered. Casts are made anew: of what autocast keeps of a weight, no node
        of the graph would be the cast."""
        with ExitStack() as self._entered:
            self._entered.callback(torch.set_autocast_cache_enabled, torch.is_autocast_cache_enabled())
            torch.set_autocast_cache_enabled(False)
            yield

    def switch(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """Autocast is on where the graph has it on; gradients stay off."""
        if node.target is torch.amp.autocast_mode._enter_autocast:
            context = node.target(*args, **kwargs)
            self._entered.callback(_leave, context)
            return context
        if node.target is torch.amp.autocast_mode._exit_autocast:
            _leave(args[0])
        if node.target is torch._C._set_grad_enabled:
            self.recorder.stopping = not args[0]
        return None


_SWITCHES = (
    torch.amp.autocast_mode._enter_autocast,
    torch.amp.autocast_mode._exit_autocast,
    torch._C._set_grad_enabled,
)


def is_switch(node: fx.Node) -> bool:
    """Whether a node sets what the calls after it do, and calculates nothing."""
    return node.target in _SWITCHES


def _level(node: fx.Node) -> int:
    """Whether a node opens a level of `torch.func`, or of forward-mode derivatives, 1, or closes one, -1."""
    name = getattr(node.target, "__name__", "")
    if name.endswith(("_increment_nesting", "_enter_dual_level")):
        return 1
    return -1 if name.endswith(("_decrement_nesting", "_exit_dual_level")) else 0


def _leave(context: Any) -> None:
    if not getattr(context, "_tdsl_left", False):
        context._tdsl_left = True
        torch.amp.autocast_mode._exit_autocast(context)
