"""A slot that something is fused into: what its indices and masks are called there, and the lines that say what they are.

    store C[m, n], an epilogue adds a row    ->    x_epilogue0_0 = tl.zeros([BLOCK_M_, 1], tl.int32) + m_[:, None]
                                                   x_epilogue0_1 = tl.zeros([1, BLOCK_N_], tl.int32) + n_[None, :]
                                                   x_epilogue0_1_mask = ...

An index along one dimension is no larger than it varies where those of several dimensions make up the tile, so that a
row is loaded once for all lanes. What nobody reads is not written.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from tdsl.lower.emit import syntax
from tdsl.lower.emit.functions import triton_dtype
from tdsl.lower.emit.syntax import assign, binary, call, printed, quote
from tdsl.lower.emit.triton import Slot, StoreSlot


@dataclass(frozen=True, kw_only=True)
class Row:
    """What makes a block of the tile's rank of something that varies along some of its axes only."""

    suffix: str  # '[:, None]' of a vector; '' of what has the rank already
    shape: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """`long`: for each dimension of the slot's tensor, whether it has more than one element. `flat`: what the index of an
    element in the whole tensor is called."""

    slot: Slot
    hook: str  # Inductor's name of the slot
    prefix: str
    flat: str
    whole_mask: str  # the name of the tile's mask
    long: tuple[bool, ...]
    index_dtype: str  # 'i32' or 'i64'
    # The indices of which somebody wants the vector itself.
    vectors: set[str] = field(default_factory=set)

    @cached_property
    def names(self) -> list[str | None]:
        """What the index along each dimension is called; None where the only index is zero. Where one dimension is all
        there is, its index is the flat one."""
        if sum(self.long) == 1:
            return [self.flat if long else None for long in self.long]
        return [f"{self.prefix}{d}" if long else None for d, long in enumerate(self.long)]

    @cached_property
    def is_spread(self) -> bool:
        """Whether the indices along several dimensions, each no larger than it varies, make up the whole tile."""
        dimensions = zip(self.names, self.slot.dimensions, strict=True)
        axes = [dimension.axes for name, dimension in dimensions if name is not None]
        return len(axes) > 1 and len(frozenset().union(*axes)) == len(self.slot.shape) > 1

    def masks(self) -> dict[str, str | None]:
        """Of the indices with a shape of their own: the mask of each, of that shape; None where it needs none."""
        return {
            name: f"{name}_mask" if dimension.mask is not None else None
            for name, dimension in zip(self.names, self.slot.dimensions, strict=True)
            if name is not None and self.is_spread
        }

    def masked_axes(self, masks: Sequence[str]) -> frozenset[int] | None:
        """The axes outside which one of `masks` is false; None if one of them is not the slot's."""
        dimensions = zip(self.names, self.slot.dimensions, strict=True)
        axes = {f"{name}_mask": dimension.axes for name, dimension in dimensions if name in self.masks()}
        axes[self.whole_mask] = frozenset(range(len(self.slot.shape)))
        return frozenset().union(*(axes[mask] for mask in masks)) if axes.keys() >= set(masks) else None

    def row(self, varying: Sequence[str]) -> Row | None:
        """What is to be done with something that varies along the indices `varying`; None: it is a tile already."""
        if not isinstance(self.slot, StoreSlot) or not self.is_spread:
            return None
        dimensions = zip(self.names, self.slot.dimensions, strict=True)
        axes = {name: dimension.axes for name, dimension in dimensions if name is not None}
        if not set(varying) < axes.keys():
            return None
        suffix = ""
        if len(varying) == 1 and len(axes[varying[0]]) == 1:
            (axis,) = axes[varying[0]]
            rank = len(self.slot.shape)
            suffix = f"[{', '.join(':' if at == axis else 'None' for at in range(rank))}]"
        return Row(suffix=suffix, shape=self.slot.shape)

    # The lines

    def zero_index(self, shape: Sequence[syntax.Part]) -> ast.expr:
        """A block of zeros of the index's dtype."""
        return call("tl.zeros", block_shape(shape), triton_dtype(self.index_dtype))

    def index_lines(self) -> list[ast.Assign]:
        """The index along each dimension, and its mask where it has one of its own."""
        shape = [1] * len(self.slot.shape) if self.is_spread else self.slot.shape
        lines = []
        for name, dimension in zip(self.names, self.slot.dimensions, strict=True):
            if name is None:
                continue
            lines.append(assign(name, binary("+", self.zero_index(shape), dimension.index)))
            if self.is_spread and dimension.mask is not None:
                lines.append(assign(f"{name}_mask", spread_mask(shape, dimension.mask)))
            if name in self.vectors:
                lines.append(assign(f"{name}_line", syntax.as_vector(dimension.index)))
                if dimension.mask is not None:
                    lines.append(assign(f"{name}_mask_line", syntax.as_vector(dimension.mask)))
        return lines

    def mask_lines(self) -> list[ast.Assign]:
        """The mask of the whole tile."""
        mask = self.slot.mask
        return [] if mask is None else [assign(self.whole_mask, spread_mask(self.slot.shape, mask))]


def wanted(lines: Sequence[ast.Assign], read: Set[str]) -> list[ast.Assign]:
    """Those of the assignments whose names are read by what follows them, or by one of them that is."""
    names = {*read}
    kept: list[ast.Assign] = []
    for line in reversed(lines):
        (target,) = line.targets
        if isinstance(target, ast.Name) and target.id in names:
            kept.append(line)
            names.update(syntax.reads(line))
    return kept[::-1]


def block(value: ast.expr, slot: StoreSlot) -> ast.expr:
    """The value of a store as a block."""
    return value if slot.shape else quote("tl.full([1], {0}, {1})", value, triton_dtype(slot.dtype))


def block_shape(shape: Sequence[syntax.Part]) -> ast.expr:
    """A scalar is a block of one lane, so that whatever is fused sees a block."""
    return syntax.listed(shape or [1])


def shape_text(shape: Sequence[str]) -> str:
    return printed(block_shape(shape))


def spread_mask(shape: Sequence[syntax.Part], mask: ast.expr) -> ast.expr:
    """A mask as a block of that shape."""
    return quote("tl.full({0}, True, tl.int1) & {1}", block_shape(shape), mask)
