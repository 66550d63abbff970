"""The kernel of a template call with what was fused into it: Inductor's code in the slots of ours.

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
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, cast

import torch

from tdsl.lower.emit import syntax
from tdsl.lower.emit.functions import triton_dtype
from tdsl.lower.emit.syntax import assign, binary, call, printed, quote
from tdsl.lower.emit.triton import Line, LoadSlot, StoreSlot
from tdsl.lower.inductor import dtypes
from tdsl.lower.inductor.bindings import index_dtype
from tdsl.lower.inductor.buffer import TemplateCall
from tdsl.lower.inductor.compat.names import (
    BaseSchedulerNode,
    CSEVariable,
    DeferredLine,
    DeviceProperties,
    ExternalTritonTemplateKernel,
    IRNode,
    OrderedSet,
    PartialRender,
    RemovedArg,
    SymT,
    V,
    get_broadcasted_shape,
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
from tdsl.lower.inductor.fusion.placement import Placement
from tdsl.lower.inductor.fusion.zeros import Zeros
from tdsl.lower.inductor.module import Written, compiled_launch
from tdsl.lower.inductor.recording import placed
from tdsl.types import converts_through_f32


class TemplateKernel(ExternalTritonTemplateKernel):
    """Generates one call's kernel. Inductor makes one, drives it, and throws it away."""

    def __init__(self, call: TemplateCall) -> None:
        super().__init__(call)
        self.call = call
        self._index_dtype_override = "tl.int64" if call.source.index_dtype == "i64" else "tl.int32"
        for symbol, name in call.size_arguments.items():
            self.args.sizevars[symbol] = name
        self._placement = Placement()
        self._epilogues: dict[str, list[BaseSchedulerNode]] = {}  # behind each result
        self._captured: dict[int, int] = {}  # position of a store slot in the body -> number of its hook
        self._hooks_after: dict[int, list[str]] = defaultdict(list)  # position -> hooks that follow it
        self._fused_points: set[str] = set()
        self._texts: dict[str, str] = {}  # of the hooks
        self._names_read: dict[str, set[str]] = {}  # the names that each of them reads
        self._shapes = {slot.param: _shape_text(slot.shape) for slot in call.source.store_slots()}
        # The mask of a dimension's index that is no larger than it must be; the name of its text, or None.
        self._masks: dict[sympy.Symbol, str | None] = {}
        # The axes outside which a mask is false, by its name.
        self._masked_axes: dict[str, frozenset[int]] = {}
        self._wants_zeros = False  # from loads, in the lanes that they leave out
        self._load_masks: list[str] = []  # of the last load
        self._padded_with_zeros: set[str] = set()  # points where the prologue is 0 outside by itself
        # Of a stored tile that is made up of indices along several dimensions: the axis of each, and its shape.
        self._tiles: list[tuple[dict[sympy.Symbol, int | None], tuple[str, ...]]] = []
        self._lines: set[str] = set()  # the indices of which somebody wants the vector itself
        self._loading = False
        # What makes a tile of what is being loaded: a suffix and a shape; None: it is one.
        self._row: tuple[str, tuple[str, ...]] | None = None
        self.inductor_meta: dict[str, Any] = {}

    def get_index_dtype_as_torch_dtype(self) -> torch.dtype:
        # Inductor would choose by what is fused alone.
        return torch.int64 if self._index_dtype_override == "tl.int64" else torch.int32

    # What goes where

    def _compute_fusion_metadata(
        self,
        scheduling: Any,
        epilogue_nodes: Sequence[BaseSchedulerNode],
        prologue_nodes: Sequence[BaseSchedulerNode],
        buf_name_to_prologue_group: Mapping[str, Sequence[BaseSchedulerNode]],
    ) -> None:
        placement = placed(
            V.graph.scheduler.name_to_node[self.call.get_operation_name()], epilogue_nodes, prologue_nodes
        )
        assert isinstance(placement, Placement), "the scheduling has fused only what can be placed"
        self._placement = placement
        nodes = {node.get_name(): node for node in epilogue_nodes}
        self._epilogues = {
            param: [nodes[work.name] for work in works] for param, works in placement.epilogues.items()
        }
        self._prologue_groups = buf_name_to_prologue_group
        self._unfused_epilogues = []
        self._epilogue_nodes_by_subgraph = defaultdict(list)
        fused = [node for behind in self._epilogues.values() for node in behind]
        if not _fit_in_32_bits([*fused, *prologue_nodes]):
            self._index_dtype_override = "tl.int64"

    def codegen_prologues_in_subgraphs(
        self,
        buf_name_to_prologue_group: Mapping[str, Sequence[BaseSchedulerNode]],
        prologue_preserves_zero_mask_fn: Callable[[BaseSchedulerNode], bool],
    ) -> None:
        # `zeros` knows what a prologue makes of zeros; Inductor's own answer (2.13) fails for a remainder.
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

    def _setup_fusion_hooks(self) -> None:
        """Makes a slot of Inductor's for each point that something is fused into."""
        call = self.call
        self.render_hooks["<DEF_KERNEL>"] = lambda: ""
        # What this kernel computes: a buffer whose every reader is among it need not exist.
        self.store_buffer_names.add(call.get_name())
        self.store_buffer_names |= OrderedSet(call.result_buffers.values())
        for position, item in enumerate(call.source.body):
            match item:
                case LoadSlot() if call.tensors[item.param].get_name() in self._prologue_groups:
                    self._setup_load(item)
                case StoreSlot():
                    if self._epilogues.get(item.param) or call.results[item.param].inout:
                        self._setup_store(item, position)
        for param in self._in_order():
            positions = call.source.store_positions(param)
            # Of stores in several branches, one runs: each has the whole of what is fused behind it.
            last = positions if len(positions) > 1 else (self._last_position(param),)
            for position, after in zip(positions, last, strict=True):
                hook = self._get_store_output_subgraph_name(self._captured[position])
                self._hooks_after[after].append(hook)
        for node in call.tensors.values():
            if node.get_name() not in self._prologue_groups:
                self.args.input(node.get_name())
        for name in call.result_buffers.values():
            if name not in V.graph.removed_buffers:
                self.args.output(name)

    def _setup_load(self, slot: LoadSlot) -> None:
        node = self.call.tensors[slot.param]
        self._fused_points.add(slot.point)
        self.named_input_nodes[slot.point] = node
        hook, result = f"<LOAD_INPUT_{slot.point}>", f"_prologue_{slot.point}_result"
        xindex = f"_prologue_{slot.point}_xindex"
        buffer = node.get_name()
        kernel, zeros = self, Zeros(slot.relied)

        class CaptureStore(_Operators):
            """The store to the fused producer's buffer is the value of the load point."""

            def _default(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                value = super()._default(name, args, kwargs)
                if isinstance(value, CSEVariable):
                    zeros.note(name, args, str(value), value.dtype)
                return value

            def load(self, name: str, index: sympy.Expr) -> Any:
                kernel._wants_zeros, kernel._load_masks = bool(slot.relied), []
                value = self._inner.load(name, index)
                kernel._wants_zeros, masks = False, kernel._load_masks
                # One number has no mask; and masks that are not ours may leave other values.
                varies = any(symbol in kernel.range_tree_nodes for symbol in index.free_symbols)
                if varies and masks and all(mask in kernel._masked_axes for mask in masks):
                    zeros.note_load(
                        str(value), {axis for mask in masks for axis in kernel._masked_axes[mask]}
                    )
                return value

            def store(self, name: str, index: sympy.Expr, value: Any, mode: Any = None) -> None:
                V.kernel.store_buffer_names.add(name)
                V.kernel.cse.store_cache[name] = value
                if name == buffer:
                    # A constant is one number, of whatever rank; the tile is made of it.
                    block = tuple(value.shape or ()) == ("XBLOCK",)
                    text = value if block else f"tl.where({xindex} >= 0, {value}, {value})"
                    V.kernel.compute.writeline(f"{result} = {text}")
                    if slot.relied and zeros.all_zero(str(value)):
                        kernel._padded_with_zeros.add(slot.point)

        lengths = [V.graph.sizevars.simplify(size) for size in node.get_size()]
        self._make_independent_subgraph(hook, sympy_product(lengths), ops_handler=CaptureStore)  # type: ignore[no-untyped-call]
        with self.set_subgraph_body(hook):
            mask = f"_prologue_{slot.point}_xmask"
            self._enter_tile(xindex, mask if slot.mask else None)
            self._masked_axes[mask] = frozenset(range(len(slot.shape)))
            names = _index_names(f"_prologue_{slot.point}_", xindex, lengths)
            if any(names) and xindex not in names:
                self._set_masks(slot, names, self._name_dimensions(lengths, names))
        self.render_hooks[hook] = self._text_of(hook, xindex)

    def _setup_store(self, slot: StoreSlot, position: int) -> None:
        number = next(self.store_output_ctr)
        hook = self._get_store_output_subgraph_name(number)
        self._captured[position] = number
        result = self.call.results[slot.param]
        buffer = self.call.result_buffers[slot.param]
        lengths = [V.graph.sizevars.simplify(size) for size in result.layout.size]
        self._make_independent_subgraph(hook, sympy_product(lengths), ops_handler=_Operators)  # type: ignore[no-untyped-call]
        xindex = f"x_epilogue{number}_index"
        with self.set_subgraph_body(hook):
            self._enter_tile(xindex, f"_tile_mask_{number}" if slot.mask else None)
            names = _index_names(f"x_epilogue{number}_", xindex, lengths)
            indices = self._name_dimensions(lengths, names)
            self._set_masks(slot, names, indices)
            if _is_spread(slot, names):
                self._tiles.append((_positions(slot, indices), slot.shape))
            if xindex not in names and any(names):
                contiguous = sympy_dot(ir.FlexibleLayout.contiguous_strides(lengths), indices)
                flat = texpr(self.rename_indexing(contiguous))
                spread = "" if _is_spread(slot, names) else f"{printed(self._zeros(slot.shape))} + "
                self.body.writeline(f"{xindex} = {spread}{flat}")
            value = self._value(f"_kernel_val_{number}", slot.dtype)
            if buffer not in V.graph.removed_buffers:
                if result.inout:
                    # The template's own store goes to the tensor that the loads read.
                    self.store(buffer, result.layout.make_indexer()(indices), value)
                else:
                    self.args.output(buffer)
                    self.stores.writeline(DeferredLine(buffer, printed(slot.plain)))
            self.cse.store_cache[buffer] = value
            for other in sorted(self._placement.results_read.get(slot.param, ())):
                self.cse.store_cache[self.call.result_buffers[other]] = self._value(
                    self._spread(slot, other, f"_kernel_val_{other}"),
                    dtypes.NAMES[self.call.results[other].layout.dtype],
                )
            for name, other in sorted(self._placement.values_read.get(slot.param, {}).items()):
                self.cse.store_cache[name] = self._value(
                    self._spread(slot, other, f"_value_{name}"), dtypes.NAMES[V.graph.get_dtype(name)]
                )
        self._epilogue_nodes_by_subgraph[number] = self._epilogues.get(slot.param, [])
        self.render_hooks[hook] = self._text_of(hook, xindex)

    def _value(self, text: str, dtype: str) -> Any:
        """A stored value as an epilogue reads it: what a load of the stored tensor would give."""
        if dtype in ("f16", "bf16") and inductor_config.triton.codegen_upcast_to_fp32:
            text, dtype = f"{text}.to(tl.float32)", "f32"
        return self.cse.generate(self.compute, text, dtype=dtypes.TORCH[dtype], shape=("XBLOCK",))

    def _spread(self, slot: StoreSlot, other: str, text: str) -> str:
        """A value of the block that another result's slot stores, or computes, over the tile of `slot`."""
        mine, its = (self.call.kernel.stores(param)[0].tiles for param in (slot.param, other))
        if not its:
            text = f"tl.reshape({text}, [{', '.join('1' for _ in mine) or '1'}])"
        elif len(its) < len(mine):
            text += f"[{', '.join(':' if tile in its else 'None' for tile in mine)}]"
        return f"tl.broadcast_to({text}, {_shape_text(slot.shape)})"

    def _in_order(self) -> list[str]:
        """The results with a store slot, each after those behind which something is computed that it reads."""
        params = [item.param for item in self.call.source.body if isinstance(item, StoreSlot)]
        done: list[str] = []

        def visit(param: str) -> None:
            if param not in done and self.call.source.store_positions(param)[0] in self._captured:
                for other in sorted(self._placement.values_read.get(param, {}).values()):
                    visit(other)
                done.append(param)

        for param in params:
            visit(param)
        return done

    def _last_position(self, param: str) -> int:
        """Of the store slots whose values are read behind `param`, and its own, the last."""
        results, values = (
            self._placement.results_read.get(param, ()),
            self._placement.values_read.get(param, {}),
        )
        positions = [self.call.source.store_positions(other)[0] for other in (param, *results)]
        return max([*positions, *map(self._last_position, values.values())])

    def _enter_tile(self, xindex: str, mask: str | None) -> None:
        """Inside a slot's subgraph: its flat index is `xindex`, its lanes are those of `mask`."""
        self.simplify_indexing.cache_clear()
        self.template_mask = mask if mask is not None else "None"
        self.template_out_shape = xindex
        tree = self.range_trees[0]
        self._rename(tree.lookup(sympy.S.One, tree.numel), xindex)

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
        # What varies along some dimensions only is loaded once for all lanes along the others.
        varying = [symbol for symbol in options.index.free_symbols if not self._is_size(symbol)]
        if not stores and varying and all(symbol in self._masks for symbol in varying):
            masks = [mask for symbol in varying if (mask := self._masks[symbol]) is not None]
            rest = [mask for mask in options.mask_vars if mask != self.template_mask]
            options.mask_vars = OrderedSet([*sorted(masks), *rest])
            if self._loading and not rest:
                self._note_row(options, varying)
        if not stores:
            self._load_masks = [str(mask) for mask in options.mask_vars]
        if self._wants_zeros:
            # Only then is there an `other=0.0` where there is a mask.
            options._has_rindex = True
        if options.expand_shape is None:
            options.expand_shape = ("XBLOCK",)
        return options

    def load(self, name: str, index: sympy.Expr) -> Any:
        self._loading, self._row = True, None
        value = super().load(name, index)
        self._loading = False
        if self._row is None:
            return value
        # Triton gives a row the layout of the tile where the two first meet, behind a barrier: that had better be
        # before the whole tile is in registers, or some of them are spilled. An integer may be an index.
        suffix, shape = self._row
        text = f"{value}{suffix}"
        if value.dtype.is_floating_point:
            text = f"tl.broadcast_to({text}, {_shape_text(shape)})"
        return self.cse.generate(self.loads, text, dtype=value.dtype, shape=value.shape)

    def _note_row(self, options: Any, varying: Sequence[sympy.Symbol]) -> None:
        """What is loaded varies along `varying` only. Where that is one axis of the tile, a vector is loaded:
        of a block with an axis of length one, Triton loads each element again for each register along it."""
        for axes, shape in self._tiles:
            if set(varying) < axes.keys():
                suffix = ""
                if len(varying) == 1 and (axis := axes[varying[0]]) is not None:
                    name = varying[0].name
                    self._lines.add(name)
                    line = syntax.renamed(syntax.parsed(options.index_str), {name: f"{name}_line"})
                    options.index_str = printed(line)
                    options.mask_vars = OrderedSet(f"{mask}_line" for mask in options.mask_vars)
                    suffix = _expansion(axis, len(shape))
                self._row = suffix, shape
                return

    def _is_size(self, symbol: sympy.Symbol) -> bool:
        return symbol not in self.range_tree_nodes and not symbol_is_type(symbol, SymT.TMP)

    def _set_masks(
        self, slot: LoadSlot | StoreSlot, names: Sequence[str | None], indices: Sequence[sympy.Expr]
    ) -> None:
        """Notes the masks of those indices that have a shape of their own (`_index_lines` writes both)."""
        if not _is_spread(slot, names):
            return
        for name, index, dimension in zip(names, indices, slot.dimensions, strict=True):
            if name is not None:
                self._masks[index] = f"{name}_mask" if dimension.mask is not None else None
                self._masked_axes[f"{name}_mask"] = dimension.axes

    def _zeros(self, shape: Sequence[syntax.Part]) -> ast.expr:
        return call("tl.zeros", _block_shape(shape), quote(self.index_dtype))

    def _index_lines(self, slot: LoadSlot | StoreSlot, names: Sequence[str | None]) -> list[ast.Assign]:
        """The index along each dimension, no larger than it varies where the whole tile is made of several."""
        spread = _is_spread(slot, names)
        shape = [1] * len(slot.shape) if spread else slot.shape
        lines = []
        for name, dimension in zip(names, slot.dimensions, strict=True):
            if name is None:
                continue
            lines.append(assign(name, binary("+", self._zeros(shape), dimension.index)))
            if spread and dimension.mask is not None:
                lines.append(assign(f"{name}_mask", _spread_mask(shape, dimension.mask)))
            if name in self._lines:
                lines.append(assign(f"{name}_line", syntax.as_vector(dimension.index)))
                if dimension.mask is not None:
                    lines.append(assign(f"{name}_mask_line", syntax.as_vector(dimension.mask)))
        return lines

    def _name_dimensions(
        self, lengths: Sequence[sympy.Expr], names: Sequence[str | None]
    ) -> list[sympy.Expr]:
        """The index of each dimension of the tile's tensor, spelled `names`."""
        indices: list[sympy.Expr] = []
        entries = self.range_trees[0].construct_entries(list(lengths))
        for entry, name in zip(entries, names, strict=True):
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

    def _text_of(self, hook: str, xindex: str) -> Callable[[], str]:
        def text() -> str:
            with self.set_subgraph_body(hook):
                self.codegen_body()  # type: ignore[no-untyped-call]
                self.cse.invalidate(OrderedSet())
                body = self.body.getvalue()
            return body.rstrip()

        return text

    def store(self, name: str, index: sympy.Expr, value: Any, mode: Any = None) -> None:
        for values in self._placement.values_read.values():
            if name in values:
                shape = self._shapes[values[name]]
                self.compute.writeline(f"_value_{name} = tl.broadcast_to({value}, {shape})")
                break
        if index.is_number:
            # The one element of a tensor: Inductor would broadcast a number to its own block; of an index that
            # varies, if only as long as nobody simplifies it, it leaves the shape alone.
            tree = self.range_trees[0]
            index = index + tree.lookup(sympy.S.One, tree.numel).symbol()
        super().store(name, index, value, mode)

    # The text

    def _finalize_partial_render(self, partial_code: str | PartialRender) -> PartialRender:
        with V.set_kernel_handler(self):
            self._texts = {key: hook() for key, hook in self.render_hooks.items()}
            self._names_read = {key: {*syntax.reads(ast.parse(text))} for key, text in self._texts.items()}
            body, record = self._body(), compiled_launch(self, self.call)
            self.triton_meta, self.inductor_meta = dict(record.triton_meta), dict(record.inductor_meta)
            source = record.module(body, set().union(*self._names_read.values()))
        self.render_hooks = {key: lambda text=text: text for key, text in self._texts.items()}
        return PartialRender(source, self.render_hooks)

    def _body(self) -> list[tuple[int, Written]]:
        lines: list[tuple[int, Written]] = [(0, line) for line in self._pointer_lines()]
        for position, item in enumerate(self.call.source.body):
            match item:
                case Line(accumulates=str(param)) if self._is_removed(self.call.result_buffers[param]):
                    written: list[Written] = [ast.Pass()]
                case Line(describes=str(point)) if not self._is_described(point):
                    written = []
                case Line():
                    written = [item.code]
                case LoadSlot() if item.point in self._fused_points:
                    written = self._fused_load(item)
                case LoadSlot():
                    written = [item.unfused(aligned=self._is_described(item.point))]
                case StoreSlot():
                    written = self._store(item, position)
            lines += [(item.indent, each) for each in written]
        return lines

    def _is_described(self, point: str) -> bool:
        # Asked last of all: a buffer may have become a part of another ('cat').
        (slot,) = (slot for slot in self.call.source.load_slots() if slot.point == point)
        name = self.call.tensors[slot.param].get_name()
        return point not in self._fused_points and not is_unaligned_buffer_name(name)

    def _pointer_lines(self) -> list[ast.Assign]:
        """Our names for the kernel's pointer arguments. Two of ours may be one of Inductor's."""
        lines = []
        for pointer in self.call.source.pointers:
            node = self.call.tensors.get(pointer.param)
            if node is not None:
                name = node.get_name()
                if name in self._prologue_groups:
                    continue
                argument = syntax.tree(self.args.input(name))
                if node.get_dtype() != V.graph.get_dtype(name):
                    argument = quote("{0}.to(tl.pointer_type({1}))", argument, triton_dtype(pointer.dtype))
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

    def _store(self, slot: StoreSlot, position: int) -> list[Written]:
        lines: list[Written] = []
        if any(slot.param in results for results in self._placement.results_read.values()):
            lines.append(assign(f"_kernel_val_{slot.param}", _as_read(slot)))
        if position in self._captured:
            lines += self._capture(slot, self._captured[position])
        elif not self._is_removed(self.call.result_buffers[slot.param]):
            lines.append(slot.plain)
        return [*lines, *self._hooks_after[position]] or [ast.Pass()]

    def _capture(self, slot: StoreSlot, number: int) -> list[ast.Assign]:
        """Names for what the code behind a store slot reads: its value, its mask and its indices."""
        value, lines = assign(f"_kernel_val_{number}", _as_read(slot)), []
        if slot.mask is not None:
            lines.append(assign(f"_tile_mask_{number}", _spread_mask(slot.shape, slot.mask)))
        xindex = f"x_epilogue{number}_index"
        names = _index_names(f"x_epilogue{number}_", xindex, self.call.results[slot.param].layout.size)
        if not any(names):
            lines.append(assign(xindex, self._zeros(slot.shape)))
        lines += self._index_lines(slot, names)
        return [value, *_wanted(lines, self._names_read[self._get_store_output_subgraph_name(number)])]

    def _fused_load(self, slot: LoadSlot) -> list[Written]:
        hook = f"<LOAD_INPUT_{slot.point}>"
        prefix = f"_prologue_{slot.point}"
        names = _index_names(f"{prefix}_", f"{prefix}_xindex", self.call.tensors[slot.param].get_size())
        lines = [assign(f"{prefix}_xindex", binary("+", self._zeros(slot.shape), slot.index))]
        if f"{prefix}_xindex" not in names:
            lines += self._index_lines(slot, names)
        if slot.mask is not None:
            lines.append(assign(f"{prefix}_xmask", _spread_mask(slot.shape, slot.mask)))
        value = quote("{0}.to({1})", f"{prefix}_result", triton_dtype(slot.dtype))
        if not slot.multiplied:
            value = _as_stored(value, slot.dtype)
        elif slot.dtype == "f64":
            value = call("opaque", value)
        if slot.shape:
            value = call("tl.broadcast_to", value, _block_shape(slot.shape))
        else:
            value = quote("tl.reshape({0}, [])", value)
        written: list[Written] = [*_wanted(lines, self._names_read[hook]), hook, assign(slot.target, value)]
        if slot.neutral is not None and slot.point not in self._padded_with_zeros:
            masked = call("tl.where", slot.neutral, slot.target, slot.other)
            written.append(assign(slot.target, masked))
        return written

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


def make_kernel_render(call: TemplateCall, hint_override: int | None = None) -> Any:
    """What Inductor asks a template's buffer for: its kernel, and what gives the kernel's text."""
    kernel = TemplateKernel(call)

    def render() -> PartialRender:
        kernel._setup_fusion_hooks()
        return PartialRender("", kernel.render_hooks)

    return kernel, render


def _fit_in_32_bits(nodes: Sequence[BaseSchedulerNode]) -> bool:
    names = OrderedSet(dep.name for node in nodes for dep in node.read_writes.reads_and_writes())
    buffers = [buffer for name in names if (buffer := V.graph.try_get_buffer(name)) is not None]
    return index_dtype(buffer.get_layout() for buffer in buffers if buffer.has_tensor_output()) == "i32"


def _index_names(prefix: str, flat: str, lengths: Sequence[sympy.Expr]) -> list[str | None]:
    """What a slot's index along each dimension is called; None where the only index is zero. Where one
    dimension is all there is, its index is the flat one."""
    long = [d for d, size in enumerate(lengths) if not V.graph.sizevars.statically_known_equals(size, 1)]
    if len(long) == 1:
        return [flat if d in long else None for d in range(len(lengths))]
    return [f"{prefix}{d}" if d in long else None for d in range(len(lengths))]


def _positions(slot: StoreSlot, indices: Sequence[sympy.Expr]) -> dict[sympy.Symbol, int | None]:
    """The axis of the tile along which each index varies; None where it is not one of its own."""
    return {
        index: min(dimension.axes) if len(dimension.axes) == 1 else None
        for index, dimension in zip(indices, slot.dimensions, strict=True)
        if index != 0
    }


def _expansion(axis: int, rank: int) -> str:
    """What makes a vector a block of `rank` dimensions that varies along `axis`."""
    return f"[{', '.join(':' if at == axis else 'None' for at in range(rank))}]"


def _is_spread(slot: LoadSlot | StoreSlot, names: Sequence[str | None]) -> bool:
    """Whether the indices along several dimensions, each no larger than it varies, make up the whole tile."""
    axes = [
        dimension.axes for name, dimension in zip(names, slot.dimensions, strict=True) if name is not None
    ]
    return len(axes) > 1 and len(frozenset().union(*axes)) == len(slot.shape) > 1


def _wanted(lines: Sequence[ast.Assign], read: Set[str]) -> list[ast.Assign]:
    """Those of the assignments whose names are read by what follows them, or by one of them that is."""
    wanted = {*read}
    kept: list[ast.Assign] = []
    for line in reversed(lines):
        (target,) = line.targets
        if isinstance(target, ast.Name) and target.id in wanted:
            kept.append(line)
            wanted.update(syntax.reads(line))
    return kept[::-1]


class _Operators(V.WrapperHandler):  # type: ignore[misc, name-defined]
    """Inductor's operators, but for what Triton would not compile, or compiles to wrong numbers."""

    def _default(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "to_dtype":
            value, dtype, *_ = args
            names = (dtypes.NAMES.get(each, str(each)) for each in (value.dtype, dtype))
            if converts_through_f32(*names):
                single = super()._default(name, (value, torch.float32, value.dtype), {})
                return super()._default(name, (single, dtype, torch.float32), {})
        return _instruction(name, args) or super()._default(name, args, kwargs)


_INSTRUCTIONS: dict[tuple[str, torch.dtype | None], str] = {
    ("abs", torch.float32): "absolute({0})",
    ("abs", torch.int16): "as_i16(tl.abs({0}))",
    ("neg", torch.int16): "as_i16(-{0})",
    ("add", torch.int16): "as_i16({0} + {1})",
    ("sub", torch.int16): "as_i16({0} - {1})",
    ("mul", torch.int16): "as_i16({0} * {1})",
    ("gt", torch.float32): "above({0}, {1})",
    ("ge", torch.float32): "at_least({0}, {1})",
    ("lt", torch.float32): "below({0}, {1})",
}


def _instruction(name: str, args: tuple[Any, ...]) -> CSEVariable | None:
    """An operator on a GPU as `intrinsics` has it; None for one that Triton compiles to right numbers."""
    found = _INSTRUCTIONS.get((name, args[0].dtype)) if args and isinstance(args[0], CSEVariable) else None
    if found is None or V.graph.get_current_device_or_throw().type != "cuda":
        return None
    dtype = torch.bool if name in ("gt", "ge", "lt") else args[0].dtype
    shape = args[0].shape if len(args) == 1 else get_broadcasted_shape(args[0].shape, args[1].shape)
    text = found.format(*args)
    return cast(CSEVariable, V.kernel.cse.generate(V.kernel.compute, text, dtype=dtype, shape=shape))


def _as_read(slot: StoreSlot) -> ast.expr:
    """The value of a store as what is fused behind it reads it, had it been stored."""
    if slot.computed is None:
        return _block(slot.value, slot)
    computed, dtype = slot.computed
    value = _as_stored(computed, dtype)
    if converts_through_f32(dtype, slot.dtype):
        value = quote("{0}.to(tl.float32)", value)
    if dtype != slot.dtype:
        value = quote("{0}.to({1})", value, triton_dtype(slot.dtype))
    return _block(value, slot)


def _as_stored(value: ast.expr, dtype: str) -> ast.expr:
    """A value that crosses a fusion, to the last bit what it would be had it been stored and loaded."""
    if dtype not in ("f16", "bf16", "f32", "f64"):
        return value
    device = DeviceProperties.create(V.graph.get_current_device_or_throw())
    return call("as_stored", value) if device.type == "cuda" else value


def _block(value: ast.expr, slot: StoreSlot) -> ast.expr:
    return value if slot.shape else quote("tl.full([1], {0}, {1})", value, triton_dtype(slot.dtype))


def _block_shape(shape: Sequence[syntax.Part]) -> ast.expr:
    """A scalar is a block of one lane, so that whatever is fused sees a block."""
    return syntax.listed(shape or [1])


def _shape_text(shape: Sequence[str]) -> str:
    return printed(_block_shape(shape))


def _spread_mask(shape: Sequence[syntax.Part], mask: ast.expr) -> ast.expr:
    """A mask as a block of that shape."""
    return quote("tl.full({0}, True, tl.int1) & {1}", _block_shape(shape), mask)
