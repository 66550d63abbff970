"""Drives Inductor's code generator through one call's kernel.

    A, B = ..., sigmoid(b)     C_ = out_ptr0                       (pointers: ours are Inductor's)
    C = matmul(A, B)       ->  <LOAD_INPUT_B>                      tmp0 = tl.load(in_ptr1 + ...); tl.sigmoid(tmp0)
    return relu(C) * bias      <STORE_OUTPUT_0>                    tmp7 = ...; tl.store(out_ptr0 + ..., tmp7, ...)

Each fusable load point is an input of its own (`<LOAD_INPUT_point>`), each store point an output of its own
(`<STORE_OUTPUT_i>`); Inductor's code generator runs once per slot, on range trees of that slot's tensor. All
work that is fused behind one output goes through its one store slot, so a chain, or several consumers, need
no second kernel.

Which fusions there are is `scheduling`'s business, what goes where `placement`'s; the decorator and the `def` line are `module`'s.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from typing_extensions import assert_never

from tdsl.lower.emit import fused, syntax
from tdsl.lower.emit.frames import Frame, Row
from tdsl.lower.emit.functions import triton_dtype
from tdsl.lower.emit.fused import (
    Written,
    computed_value,
    fused_load,
    fused_store,
    prologue_result,
    stored_value,
)
from tdsl.lower.emit.syntax import assign, printed
from tdsl.lower.emit.triton import Line, LoadSlot, Slot, StoreSlot
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.bindings import index_dtype
from tdsl.lower.inductor.buffer import TemplateCall
from tdsl.lower.inductor.compat.names import (
    BaseSchedulerNode,
    DeferredLine,
    DeviceProperties,
    ExternalTritonTemplateKernel,
    IRNode,
    OrderedSet,
    PartialRender,
    RemovedArg,
    SymT,
    V,
    inductor_config,
    ir,
    is_unaligned_buffer_name,
    size_hint,
    symbol_is_type,
    sympy,
    sympy_dot,
    sympy_product,
    texpr,
)
from tdsl.lower.inductor.fusion.padding import PaddedLanes
from tdsl.lower.inductor.fusion.placement import Placement
from tdsl.lower.inductor.kernel.launching import compiled_launch
from tdsl.lower.inductor.kernel.operators import Operators, prologue_operators
from tdsl.lower.inductor.recording import placed


@dataclass(frozen=True, kw_only=True)
class _Fused:
    """What is fused into the kernel."""

    placement: Placement
    epilogues: Mapping[str, Sequence[BaseSchedulerNode]]  # behind each result, in order
    prologues: Mapping[str, Sequence[BaseSchedulerNode]]  # that make each buffer


@dataclass(kw_only=True)
class _Access:
    """One load of fused work, while Inductor generates it."""

    padded: bool  # the lanes that its mask leaves out are to read 0
    masks: list[str] = field(default_factory=list)
    row: Row | None = None  # None: a tile is loaded


class TemplateKernel(ExternalTritonTemplateKernel):
    """Generates one call's kernel. Inductor makes one, drives it, and throws it away."""

    def __init__(self, call: TemplateCall) -> None:
        super().__init__(call)
        self.call = call
        self._index_dtype_override = _INDEX_DTYPES[call.source.index_dtype]
        for symbol, name in call.size_arguments.items():
            self.args.sizevars[symbol] = name
        self._fused = _Fused(placement=Placement(), epilogues={}, prologues={})
        self._frames: dict[str, Frame] = {}  # by Inductor's name of the slot
        self._frame: Frame | None = None  # of the slot that is being generated
        self._access: _Access | None = None  # the load that is being generated
        # Position of a fused store slot in the body -> Inductor's number of it.
        self._numbers: dict[int, int] = {}
        self._padded: set[str] = set()  # points where the prologue is 0 outside by itself
        # What is known of the lanes outside, by Inductor's name of the load's slot.
        self._lanes: dict[str, PaddedLanes] = {}
        self.inductor_meta: dict[str, Any] = {}

    def get_index_dtype_as_torch_dtype(self) -> torch.dtype:
        # Inductor would choose by what is fused alone.
        return dtypes.TORCH[self._index_name]

    @property
    def _index_name(self) -> str:
        """The dtype of the kernel's indices."""
        return next(name for name, spelled in _INDEX_DTYPES.items() if spelled == self.index_dtype)

    # What goes where

    def _compute_fusion_metadata(
        self,
        scheduling: Any,
        epilogue_nodes: Sequence[BaseSchedulerNode],
        prologue_nodes: Sequence[BaseSchedulerNode],
        buf_name_to_prologue_group: Mapping[str, Sequence[BaseSchedulerNode]],
    ) -> None:
        node = V.graph.scheduler.name_to_node[self.call.get_operation_name()]
        placement = placed(node, epilogue_nodes, prologue_nodes)
        assert isinstance(placement, Placement), "the scheduling has fused only what can be placed"
        nodes = {node.get_name(): node for node in epilogue_nodes}
        self._fused = _Fused(
            placement=placement,
            epilogues={
                param: [nodes[work.name] for work in works] for param, works in placement.epilogues.items()
            },
            prologues=buf_name_to_prologue_group,
        )
        self._unfused_epilogues = []
        self._epilogue_nodes_by_subgraph = defaultdict(list)
        behind = [node for nodes in self._fused.epilogues.values() for node in nodes]
        if not _fit_in_32_bits([*behind, *prologue_nodes]):
            self._index_dtype_override = _INDEX_DTYPES["i64"]

    def codegen_prologues_in_subgraphs(
        self,
        buf_name_to_prologue_group: Mapping[str, Sequence[BaseSchedulerNode]],
        prologue_preserves_zero_mask_fn: Callable[[BaseSchedulerNode], bool],
    ) -> None:
        # `padding` knows what a prologue makes of zeros; Inductor's own answer (2.13) fails for a remainder.
        super().codegen_prologues_in_subgraphs(buf_name_to_prologue_group, lambda node: False)  # type: ignore[no-untyped-call]

    # With `benchmark_kernel`, a kernel's module is also a program that measures it.

    def imports_for_benchmark_kernel(self) -> str:
        # Inductor's own indents what a CPU has in place of a stream.
        stream = V.graph.device_ops.import_get_raw_stream_as("get_raw_stream")
        return f"import torch\nfrom torch._dynamo.testing import rand_strided\n{stream}\n"

    def kernel_benchmark_extra_args(self) -> list[str]:
        return []  # the grid is the launcher's

    def estimate_kernel_num_bytes(self) -> int:
        # Inductor's own asks the one output of its templates.
        layouts = [node.get_layout() for node in self.call.tensors.values()]
        layouts += [result.layout for result in self.call.results.values()]
        return sum(size_hint(sympy_product(layout.size)) * layout.dtype.itemsize for layout in layouts)

    # Slots

    def _setup_fusion_hooks(self) -> None:
        """Makes a slot of Inductor's for each point that something is fused into."""
        call = self.call
        self.render_hooks["<DEF_KERNEL>"] = lambda: ""
        # What this kernel computes: a buffer whose every reader is among it need not exist.
        self.store_buffer_names.add(call.get_name())
        self.store_buffer_names |= OrderedSet(call.result_buffers.values())
        for position, item in enumerate(call.source.body):
            match item:
                case LoadSlot() if call.tensors[item.param].get_name() in self._fused.prologues:
                    self._setup_load(item)
                case StoreSlot():
                    if self._fused.epilogues.get(item.param) or call.results[item.param].inout:
                        self._setup_store(item, position)
                case LoadSlot() | Line():
                    pass
                case _:
                    assert_never(item)
        for node in call.tensors.values():
            if node.get_name() not in self._fused.prologues:
                self.args.input(node.get_name())
        for name in call.result_buffers.values():
            if name not in V.graph.removed_buffers:
                self.args.output(name)

    def _setup_load(self, slot: LoadSlot) -> None:
        node = self.call.tensors[slot.param]
        self.named_input_nodes[slot.point] = node
        zeros = PaddedLanes(slot.relied)

        def keep(value: Any) -> None:
            # A constant is one number, of whatever rank; the tile is made of it.
            block = tuple(value.shape or ()) == ("XBLOCK",)
            text = value if block else fused.whole_tile(frame, value)
            V.kernel.compute.writeline(f"{prologue_result(frame)} = {text}")
            if slot.relied and zeros.all_zero(str(value)):
                self._padded.add(slot.point)

        prefix = f"_prologue_{slot.point}_"
        frame, lengths = self._make_frame(
            slot,
            node.get_size(),
            prologue_operators(zeros, node.get_name(), keep),
            hook=_load_hook(slot),
            prefix=prefix,
            flat=f"{prefix}xindex",
            whole_mask=f"{prefix}xmask",
        )
        self._lanes[frame.hook] = zeros
        with self.set_subgraph_body(frame.hook):
            self._enter_tile(frame)
            if any(frame.names) and frame.flat not in frame.names:
                self._name_dimensions(lengths, frame)

    def _setup_store(self, slot: StoreSlot, position: int) -> None:
        number = self._numbers[position] = next(self.store_output_ctr)
        result = self.call.results[slot.param]
        buffer = self.call.result_buffers[slot.param]
        prefix = f"x_epilogue{number}_"
        frame, lengths = self._make_frame(
            slot,
            result.layout.size,
            Operators,
            hook=self._get_store_output_subgraph_name(number),
            prefix=prefix,
            flat=f"{prefix}index",
            whole_mask=f"_tile_mask_{number}",
        )
        with self.set_subgraph_body(frame.hook):
            self._enter_tile(frame)
            indices = self._name_dimensions(lengths, frame)
            if frame.flat not in frame.names and any(frame.names):
                contiguous = sympy_dot(ir.FlexibleLayout.contiguous_strides(lengths), indices)
                flat = texpr(self.rename_indexing(contiguous))
                spread = "" if frame.is_spread else f"{printed(frame.zero_index(slot.shape))} + "
                self.body.writeline(f"{frame.flat} = {spread}{flat}")
            value = self._value(stored_value(number), slot.dtype)
            if buffer not in V.graph.removed_buffers:
                if result.inout:
                    # The template's own store goes to the tensor that the loads read.
                    self.store(buffer, result.layout.make_indexer()(indices), value)
                else:
                    self.args.output(buffer)
                    self.stores.writeline(DeferredLine(buffer, printed(slot.plain)))
            self.cse.store_cache[buffer] = value
            for other in sorted(self._fused.placement.results_read.get(slot.param, ())):
                self.cse.store_cache[self.call.result_buffers[other]] = self._value(
                    self._spread(slot, other, stored_value(other)),
                    dtypes.NAMES[self.call.results[other].layout.dtype],
                )
            for name, other in sorted(self._fused.placement.values_read.get(slot.param, {}).items()):
                self.cse.store_cache[name] = self._value(
                    self._spread(slot, other, computed_value(name)), dtypes.NAMES[V.graph.get_dtype(name)]
                )
        self._epilogue_nodes_by_subgraph[number] = [*self._fused.epilogues.get(slot.param, [])]

    def _make_frame(
        self, slot: Slot, sizes: Sequence[sympy.Expr], operators: Any, **names: Any
    ) -> tuple[Frame, list[sympy.Expr]]:
        """The frame of a slot, whose tensor has these sizes, with a slot of Inductor's; and those sizes, simplified."""
        lengths = [V.graph.sizevars.simplify(size) for size in sizes]
        frame = Frame(
            slot=slot,
            long=tuple(not V.graph.sizevars.statically_known_equals(size, 1) for size in lengths),
            index_dtype=self._index_name,
            **names,
        )
        self._frames[frame.hook] = frame
        self._make_independent_subgraph(frame.hook, sympy_product(lengths), ops_handler=operators)  # type: ignore[no-untyped-call]
        self.render_hooks[frame.hook] = lambda: self._generated(frame)
        return frame, lengths

    def _generated(self, frame: Frame) -> str:
        """Inductor's code of a slot."""
        with self.set_subgraph_body(frame.hook):
            self.codegen_body()  # type: ignore[no-untyped-call]
            self.cse.invalidate(OrderedSet())
            body = self.body.getvalue()
        return str(body).rstrip()

    def _value(self, text: str, dtype: str) -> Any:
        """A stored value as an epilogue reads it: what a load of the stored tensor would give."""
        if dtype in ("f16", "bf16") and inductor_config.triton.codegen_upcast_to_fp32:
            text, dtype = fused.converted(text, "f32"), "f32"
        return self.cse.generate(self.compute, text, dtype=dtypes.TORCH[dtype], shape=("XBLOCK",))

    def _spread(self, slot: StoreSlot, other: str, text: str) -> str:
        """A value of the block that another result's slot stores, or computes, over the tile of `slot`."""
        mine, its = (self.call.kernel.stores(param)[0].tiles for param in (slot.param, other))
        return fused.spread_value(text, its, mine, slot.shape)

    # Indices and masks, inside a slot

    @contextmanager
    def set_subgraph_body(self, body_name: str) -> Iterator[None]:
        outside, self._frame = self._frame, self._frames.get(body_name)
        with super().set_subgraph_body(body_name):
            yield
        self._frame = outside

    def _enter_tile(self, frame: Frame) -> None:
        self.simplify_indexing.cache_clear()
        self.template_mask = frame.whole_mask if frame.slot.mask is not None else "None"
        self.template_out_shape = frame.flat
        tree = self.range_trees[0]
        self._rename(tree.lookup(sympy.S.One, tree.numel), frame.flat)

    def _name_dimensions(self, lengths: Sequence[sympy.Expr], frame: Frame) -> list[sympy.Expr]:
        """The index of each dimension of the slot's tensor."""
        indices: list[sympy.Expr] = []
        entries = self.range_trees[0].construct_entries(list(lengths))
        for entry, name in zip(entries, frame.names, strict=True):
            if name is not None and entry.name != name:
                self._rename(entry, name)
            indices.append(sympy.S.Zero if name is None else entry.symbol())
        return indices

    def _rename(self, entry: Any, name: str) -> None:
        # `set_name` alone leaves the tables under the old symbol, and the new one unknown.
        old = entry.symbol()
        entry.set_name(name)
        new = entry.symbol()
        tree = entry.root
        self.range_tree_nodes[new] = self.range_tree_nodes.pop(old)
        tree.var_list[tree.var_list.index(old)] = new
        tree.var_ranges[new] = tree.var_ranges.pop(old)

    def rename_indexing(self, index: Any) -> Any:
        # Splits of the flat index are spelled with the tree's own name, the same in every slot.
        found = super().rename_indexing(index)
        if isinstance(found, sympy.Expr) and self.range_trees:
            tree = self.range_trees[0]
            found = found.xreplace({tree.index_sym(): tree.lookup(sympy.S.One, tree.numel).symbol()})
        return found

    def indexing(self, *args: Any, **kwargs: Any) -> Any:
        # Inductor gives a constant index (a tensor of one element, `store` has more) no mask, though all lanes
        # of the block would then store to that element, and no shape, though its text has the block's.
        options = super().indexing(*args, **kwargs)
        stores = kwargs.get("dense_indexing", False)
        if stores and self.template_mask is not None:
            options.mask_vars = OrderedSet([self.template_mask])
        if not stores and self._frame is not None:
            self._narrow(options, self._frame)
        if self._access is not None:
            self._access.masks = [str(mask) for mask in options.mask_vars]
            if self._access.padded:
                # Only then is there an `other=0.0` where there is a mask.
                options._has_rindex = True
        if options.expand_shape is None:
            options.expand_shape = ("XBLOCK",)
        return options

    def _narrow(self, options: Any, frame: Frame) -> None:
        """What varies along some dimensions only is loaded once for all lanes along the others. Where it is one axis of the
        tile, a vector is loaded: of a block with an axis of length one, Triton loads each element again for each register
        along it."""
        masks = frame.masks()
        varying = [str(symbol) for symbol in options.index.free_symbols if not self._is_size(symbol)]
        if not varying or not masks.keys() >= set(varying):
            return
        its = [mask for name in varying if (mask := masks[name]) is not None]
        rest = [mask for mask in options.mask_vars if mask != self.template_mask]
        options.mask_vars = OrderedSet([*sorted(its), *rest])
        if self._access is None or rest:
            return
        self._access.row = frame.row(varying)
        if self._access.row is not None and self._access.row.suffix:
            (name,) = varying
            frame.vectors.add(name)
            options.index_str = printed(
                syntax.renamed(syntax.parsed(options.index_str), {name: f"{name}_line"})
            )
            options.mask_vars = OrderedSet(f"{mask}_line" for mask in options.mask_vars)

    def _is_size(self, symbol: sympy.Symbol) -> bool:
        return symbol not in self.range_tree_nodes and not symbol_is_type(symbol, SymT.TMP)

    def load(self, name: str, index: sympy.Expr) -> Any:
        zeros = self._lanes.get(self._frame.hook) if self._frame is not None else None
        self._access = access = _Access(padded=zeros is not None and bool(zeros.axes))
        value = super().load(name, index)
        self._access = None
        if self._frame is not None and zeros is not None and access.masks:
            axes = self._frame.masked_axes(access.masks)
            # One number has no mask; and masks that are not ours may leave other values.
            if axes is not None and any(symbol in self.range_tree_nodes for symbol in index.free_symbols):
                zeros.note_load(str(value), axes)
        if access.row is None:
            return value
        # Triton gives a row the layout of the tile where the two first meet, behind a barrier: that had better be
        # before the whole tile is in registers, or some of them are spilled. An integer may be an index.
        text = fused.spread_row(value, access.row, broadcast=value.dtype.is_floating_point)
        return self.cse.generate(self.loads, text, dtype=value.dtype, shape=value.shape)

    def store(self, name: str, index: sympy.Expr, value: Any, mode: Any = None) -> None:
        if (param := self._read_elsewhere(name)) is not None:
            (*_, slot) = (slot for slot in self.call.source.store_slots() if slot.param == param)
            self.compute.writeline(f"{computed_value(name)} = {fused.over_tile(value, slot.shape)}")
        if index.is_number:
            # The one element of a tensor: Inductor would broadcast a number to its own block; of an index that
            # varies, if only as long as nobody simplifies it, it leaves the shape alone.
            tree = self.range_trees[0]
            index = index + tree.lookup(sympy.S.One, tree.numel).symbol()
        super().store(name, index, value, mode)

    def _read_elsewhere(self, buffer: str) -> str | None:
        """The result behind which `buffer` is computed, if it is read behind another one."""
        for values in self._fused.placement.values_read.values():
            if buffer in values:
                return values[buffer]
        return None

    # The text

    def _finalize_partial_render(self, partial_code: str | PartialRender) -> PartialRender:
        with V.set_kernel_handler(self):
            texts = {key: hook() for key, hook in self.render_hooks.items()}
            reads = {key: {*syntax.reads(ast.parse(text))} for key, text in texts.items()}
            body, record = self._body(reads), compiled_launch(self, self.call)
            self.triton_meta, self.inductor_meta = dict(record.triton_meta), dict(record.inductor_meta)
            source = record.module(body, set().union(*reads.values()))
        self.render_hooks = {key: lambda text=text: text for key, text in texts.items()}
        return PartialRender(source, self.render_hooks)

    def _body(self, reads: Mapping[str, set[str]]) -> list[tuple[int, Written]]:
        """The lines, each with its indent. `reads`: the names that Inductor's code of each slot reads."""
        lines: list[tuple[int, Written]] = [(0, line) for line in self._pointer_lines()]
        hooks = self._hooks_after()
        for position, item in enumerate(self.call.source.body):
            match item:
                case Line(accumulates=str(param)) if self._is_removed(self.call.result_buffers[param]):
                    written: list[Written] = [ast.Pass()]
                case Line(describes=str(point)) if not self._is_described(point):
                    written = []
                case Line():
                    written = [item.code]
                case LoadSlot() if (frame := self._frames.get(_load_hook(item))) is not None:
                    padded = item.point in self._padded
                    written = fused_load(frame, reads[frame.hook], padded=padded, on_nvidia=self._on_nvidia)
                case LoadSlot():
                    written = [item.unfused(aligned=self._is_described(item.point))]
                case StoreSlot():
                    written = [*self._stored(item, position, reads), *hooks[position]] or [ast.Pass()]
                case _:
                    assert_never(item)
            lines += [(item.indent, each) for each in written]
        return lines

    @property
    def _on_nvidia(self) -> bool:
        return bool(DeviceProperties.create(self.call.primary.device).type == "cuda")  # AMD's are 'hip'

    def _stored(self, slot: StoreSlot, position: int, reads: Mapping[str, set[str]]) -> list[Written]:
        lines: list[Written] = []
        if any(slot.param in results for results in self._fused.placement.results_read.values()):
            lines.append(assign(stored_value(slot.param), fused.as_read(slot, on_nvidia=self._on_nvidia)))
        if position in self._numbers:
            number = self._numbers[position]
            frame = self._frames[self._get_store_output_subgraph_name(number)]
            lines += fused_store(frame, number, reads[frame.hook], on_nvidia=self._on_nvidia)
        elif not self._is_removed(self.call.result_buffers[slot.param]):
            lines.append(slot.plain)
        return lines

    def _hooks_after(self) -> dict[int, list[str]]:
        """Inductor's slots behind each position in the body: where all that they read is known."""
        found: dict[int, list[str]] = defaultdict(list)
        for param in self._in_order():
            positions = self.call.source.store_positions(param)
            # Of stores in several branches, one runs: each has the whole of what is fused behind it.
            after = positions if len(positions) > 1 else (self._last_position(param),)
            for position, last in zip(positions, after, strict=True):
                found[last].append(self._get_store_output_subgraph_name(self._numbers[position]))
        return found

    def _in_order(self) -> list[str]:
        """The results with a store slot, each after those behind which something is computed that it reads."""
        done: list[str] = []

        def visit(param: str) -> None:
            if param not in done and self.call.source.store_positions(param)[0] in self._numbers:
                for other in sorted(self._fused.placement.values_read.get(param, {}).values()):
                    visit(other)
                done.append(param)

        for slot in self.call.source.store_slots():
            visit(slot.param)
        return done

    def _last_position(self, param: str) -> int:
        """Of the store slots whose values are read behind `param`, and its own, the last."""
        placement = self._fused.placement
        stored = [param, *placement.results_read.get(param, ())]
        positions = [self.call.source.store_positions(other)[0] for other in stored]
        return max([*positions, *map(self._last_position, placement.values_read.get(param, {}).values())])

    def _is_described(self, point: str) -> bool:
        # Asked last of all: a buffer may have become a part of another ('cat').
        (slot,) = (slot for slot in self.call.source.load_slots() if slot.point == point)
        name = self.call.tensors[slot.param].get_name()
        return _load_hook(slot) not in self._frames and not is_unaligned_buffer_name(name)

    def _pointer_lines(self) -> list[ast.Assign]:
        """Our names for the kernel's pointer arguments. Two of ours may be one of Inductor's."""
        lines = []
        for pointer in self.call.source.pointers:
            node = self.call.tensors.get(pointer.param)
            if node is not None:
                name = node.get_name()
                if name in self._fused.prologues:
                    continue
                argument = syntax.tree(self.args.input(name))
                if node.get_dtype() != V.graph.get_dtype(name):
                    argument = fused.pointer_to(argument, pointer.dtype)
                lines.append(assign(pointer.name, argument))
            elif (made := self.call.result_buffers.get(pointer.param)) and not self._is_removed(made):
                lines.append(assign(pointer.name, self.args.output(made)))
        return lines

    def _is_removed(self, buffer: str) -> bool:
        return (
            buffer in V.graph.removed_buffers
            or buffer in self.removed_buffers
            or isinstance(self.args.output_buffers.get(buffer), RemovedArg)
        )

    # The launch

    def emit_kernel_override(self, *args: Any, **kwargs: Any) -> bool:
        # The text carries its own decorator, so Inductor's own road compiles and launches it.
        return False

    def call_kernel(self, name: str, node: IRNode | None = None, deallocate_ws: bool = True) -> None:
        wrapper = V.graph.wrapper_code
        for pointer in self.call.source.pointers:
            if pointer.accumulated and not self._is_removed(self.call.result_buffers[pointer.param]):
                wrapper.writeline(wrapper.make_zero_buffer(self.call.result_buffers[pointer.param]))
        wrapper.write_triton_header_once()
        _, call_args, _, arg_types = self.args.python_argdefs()
        wrapper.generate_kernel_call(
            name,
            call_args,
            triton=True,
            arg_types=arg_types,
            triton_meta=self.triton_meta,
            inductor_meta=self.inductor_meta,
        )


_INDEX_DTYPES = {name: printed(triton_dtype(name)) for name in ("i32", "i64")}


def make_kernel_render(call: TemplateCall, hint_override: int | None = None) -> Any:
    """What Inductor asks a template's buffer for: its kernel, and what gives the kernel's text."""
    kernel = TemplateKernel(call)

    def render() -> PartialRender:
        kernel._setup_fusion_hooks()
        return PartialRender("", kernel.render_hooks)

    return kernel, render


def _load_hook(slot: LoadSlot) -> str:
    """Inductor's name of a load point's slot."""
    return f"<LOAD_INPUT_{slot.point}>"


def _fit_in_32_bits(nodes: Sequence[BaseSchedulerNode]) -> bool:
    names = OrderedSet(dep.name for node in nodes for dep in node.read_writes.reads_and_writes())
    buffers = [buffer for name in names if (buffer := V.graph.try_get_buffer(name)) is not None]
    return index_dtype(buffer.get_layout() for buffer in buffers if buffer.has_tensor_output()) == "i32"
