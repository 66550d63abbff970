"""A call's candidates, and what each of them comes to: configs, blocks, tiles that have no lane outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tdsl import ir
from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.lower.facts.binding import Binding
from tdsl.lower.facts.bound import BoundKernel, bind
from tdsl.lower.facts.candidates import PERSISTENT, SUBTILES, TMA, BoundCandidate, Config, Scalar
from tdsl.lower.facts.extents import Extent, ceildiv, combine, multiply
from tdsl.options import LAUNCH_OPTIONS, OPTIONS

MAX_LANES = 1 << 20  # of one block, Triton's limit


@dataclass(frozen=True, kw_only=True)
class Specialization(BoundKernel):
    """A kernel, the arguments of one call, and the candidates that are compiled for it."""

    candidates: tuple[BoundCandidate, ...]

    @property
    def subtiled(self) -> bool:
        return any(self._subtiles(candidate) > 1 for candidate in self.candidates)

    @property
    def persistent(self) -> bool:
        return any(map(_is_persistent, self.candidates))

    @property
    def tma(self) -> bool:
        return any(map(has_tma, self.candidates))

    def even(self, tile: ir.Tile) -> bool:
        """Whether the tile's blocks cover its range without a lane outside, in every candidate."""
        if tile.scalar:
            return True
        for candidate in self.candidates:
            block = self.block(tile, candidate)
            if not all(self.is_multiple(edge, block, candidate) for edge in (tile.start, tile.stop)):
                return False
            if tile.role == "whole" and self.integer(tile.stop) == 0:
                return False  # a block has a lane even where the dimension has none
        return True

    def is_multiple(self, expr: ir.Expr, block: int, candidate: BoundCandidate) -> bool:
        """Whether an edge of a tile is surely divisible by `block`: a number, or an edge of another tile."""
        value = self.integer(expr, candidate.settings)
        if value is not None:
            return value % block == 0
        match expr:
            case ir.TileEdge(tile=tile, edge=edge) if not tile.scalar and tile.role != "whole":
                return (
                    self.block(tile, candidate) % block == 0
                    and self.is_multiple(tile.start, block, candidate)
                    and (edge == "start" or self.is_multiple(tile.stop, block, candidate))
                )
            case ir.Select(condition=condition, then=then, otherwise=otherwise):
                chosen = then if self.value(condition) else otherwise
                return self.is_multiple(chosen, block, candidate)
            case ir.Elementwise(function="minimum" | "maximum", arguments=arguments):
                return all(self.is_multiple(argument, block, candidate) for argument in arguments)
        return False

    def configs(self, calculated: Mapping[str, ir.Expr]) -> tuple[Config, ...]:
        """`calculated`: arguments that are compile-time integers and not the same in each candidate, by name."""
        # Whoever tells candidates apart looks at constants, warps and stages. No setting of an author's is
        # called like an option, so the names are free.
        also = [
            option
            for option in LAUNCH_OPTIONS
            if option not in ("num_warps", "num_stages")
            and len({candidate.options.get(option) for candidate in self.candidates}) > 1
        ]
        return tuple(
            Config(
                constants=self._constants(candidate, also, calculated),
                num_warps=candidate.options.get("num_warps"),
                num_stages=candidate.options.get("num_stages"),
                num_ctas=candidate.options.get("num_ctas"),
                maxnreg=candidate.options.get("maxnreg"),
                grid=self._tile_count(candidate),
                persistent=_is_persistent(candidate),
            )
            for candidate in self.candidates
        )

    def _constants(
        self, candidate: BoundCandidate, also: Sequence[str], calculated: Mapping[str, ir.Expr]
    ) -> tuple[tuple[str, int], ...]:
        found = [(f"{name}_", candidate.settings.get(name, 0)) for name in (*candidate.chosen, *also)]
        for name, expr in calculated.items():
            found.append((name, self.value(expr, candidate.settings)))
        if self.subtiled:
            found.append((SUBTILES, self._subtiles(candidate)))
        if self.persistent:
            found.append((PERSISTENT, int(_is_persistent(candidate))))
        if self.tma:
            found.append((TMA, int(has_tma(candidate))))
        return tuple(found)  # type: ignore[arg-type]

    def subtiled_tile(self, store: ir.Store) -> ir.Tile | None:
        """The tile along which the block of `store` is stored in parts; what has fewer than two is stored whole."""
        return store.tiles[-1] if self.subtiled and len(store.tiles) > 1 else None

    def _subtiles(self, candidate: BoundCandidate) -> int:
        """In how many parts blocks are stored: no more than the smallest has lanes along its last tile."""
        parts = candidate.option("epilogue_subtile")
        if parts == 1:
            return 1
        stores = (node for node in self.kernel.nodes if isinstance(node, ir.Store))
        lanes = (self.block(store.tiles[-1], candidate) for store in stores if len(store.tiles) > 1)
        return min(parts, min(lanes, default=1))

    def _tile_count(self, candidate: BoundCandidate) -> Extent:
        counts: Extent = 1
        for tile in self.kernel.grid:
            size = self.extent(tile.stop, candidate.settings)
            # Two dimensions of fewer than no tiles are no programs, either.
            counts = multiply(counts, combine("max", ceildiv(size, self.block(tile, candidate)), 0))
        return counts


def specialize(kernel: ir.Kernel, binding: Binding) -> Specialization:
    """A kernel and a binding, put together. Raises TdslError where no candidate is left, and where a block is none."""
    bound = bind(kernel, binding)
    candidates = tuple(_candidates(bound))
    _check_blocks(bound, candidates)
    return Specialization(
        kernel=kernel,
        binding=binding,
        dims=bound.dims,
        rest=bound.rest,
        dtypes=bound.dtypes,
        candidates=candidates,
    )


def _candidates(bound: BoundKernel) -> Iterator[BoundCandidate]:
    """The candidates whose conditions hold, each once."""
    lets = {let.name: let.value for let in bound.kernel.lets}
    conditions = []
    seen = []
    for candidate in bound.kernel.candidates:
        settings: dict[str, Scalar] = {}
        for name, expr in candidate.items:
            settings[name] = bound.value(expr, settings, likely=True)
        chosen = tuple(name for name in settings if name not in OPTIONS)
        options = {name: int(settings[name]) for name in settings if name in OPTIONS}
        for name, expr in lets.items():
            settings[name] = bound.value(expr, settings)
        if candidate.condition is not None:
            conditions.append(candidate.condition)
            if not bound.value(candidate.condition, settings, likely=True):
                continue
        found = BoundCandidate(options=options, settings=settings, chosen=chosen)
        if found not in seen:
            seen.append(found)
            yield found
    if not seen:
        raise TdslError(
            [
                Diagnostic(
                    code=Code.BAD_CONFIG,
                    message="no config is left for this call: no condition holds",
                    span=conditions[0].span,
                    help="add a config without 'if'",
                )
            ]
        )


def _check_blocks(bound: BoundKernel, candidates: Sequence[BoundCandidate]) -> None:
    for tile in _tiles(bound.kernel):
        for candidate in candidates:
            if tile.scalar:
                continue
            block = bound.block(tile, candidate)
            if block < 1 or block & (block - 1) or block > MAX_LANES:
                size = (
                    f"the dimension, {bound.value(tile.stop, candidate.settings)}, needs"
                    if tile.role == "whole"
                    else "this is"
                )
                raise TdslError(
                    [
                        Diagnostic(
                            code=Code.BAD_BLOCK,
                            message=f"tile '{tile.name}': {size} a block of {block}; a block is a power "
                            f"of two from 1 to {MAX_LANES}",
                            span=tile.span if tile.block is None else tile.block.span,
                        )
                    ]
                )


def _is_persistent(candidate: BoundCandidate) -> bool:
    return candidate.option("persistent") == 1


def has_tma(candidate: BoundCandidate) -> bool:
    return candidate.option("tma") == 1


def _tiles(kernel: ir.Kernel) -> Iterator[ir.Tile]:
    yield from kernel.grid
    for node in kernel.nodes:
        if isinstance(node, ir.For | ir.Whole):
            yield node.tile
