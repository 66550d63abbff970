"""What Inductor's autotuner chose for the kernels of this process: config, registers, spills, shared memory, grid.

    tuned_kernels(texts)    ->    [Chosen(name="triton_...", config={"BLOCK_M_": 128, ...}, registers=168, ...)]

Reads the live `CachingAutotuner`s of the kernels named in Inductor's output code.
"""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"\b(triton_\w+)\b")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One kernel as it is launched. `programs` is 0 where the grid depends on arguments."""

    name: str
    config: dict[str, Any]
    num_warps: int
    num_stages: int
    registers: int | None
    spills: int | None
    shared: int | None
    programs: int


def autotuners() -> list[Any]:
    """Those that are alive in this process."""
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    # isinstance would ask proxies of objects that are gone.
    return [item for item in gc.get_objects() if issubclass(type(item), CachingAutotuner)]


def tuned_kernels(texts: Sequence[str], *, older: Container[int] = ()) -> list[Chosen]:
    """The kernels named in `texts`, each once. `older`: the `id`s of autotuners to pass over."""
    names = {name for text in texts for name in _NAME.findall(text)}
    found: dict[str, Chosen] = {}
    for tuner in autotuners():
        if id(tuner) in older:
            continue
        name = tuner.inductor_meta.get("kernel_name") or getattr(tuner.fn, "__name__", "")
        for launcher in tuner.launchers:
            chosen = _chosen(name, tuner, launcher)
            if (name in names or getattr(tuner.fn, "__name__", "") in names) and len(tuner.launchers) == 1:
                found[name] = chosen
    return list(found.values())


def _chosen(name: str, tuner: Any, launcher: Any) -> Chosen:
    config = launcher.config
    return Chosen(
        name=name,
        config=dict(config.kwargs),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        registers=getattr(launcher, "n_regs", None),
        spills=getattr(launcher, "n_spills", None),
        shared=getattr(launcher, "shared", None),
        programs=_programs(tuner.inductor_meta, config.kwargs),
    )


def _programs(meta: dict[str, Any], config: dict[str, Any]) -> int:
    for grid in meta.get("precomputed_grids") or ():
        if all(config.get(name) == value for name, value in grid["config"].items()):
            try:
                return math.prod(int(eval(text, {}, dict(config))) for text in grid["python"])
            except NameError:
                return 0
    return 0
