"""The module that Inductor compiles: the decorator, the `def` line, and a kernel's body.

    body lines, configs, arguments    ->    @template_autotune(configs=[...], ...)
                                            @triton.jit
                                            def triton_(in_ptr0, out_ptr0, ks0, BLOCK_M_: tl.constexpr): ...

The kernel carries its own decorator so that every road of Inductor's (compile workers, the static launcher,
the C++ wrapper, AOTInductor) takes it like a kernel of its own. What is in the body is others' business.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tdsl import ir
from tdsl.lower.emit import syntax
from tdsl.lower.emit.functions import FOR_HIP, INTRINSICS
from tdsl.lower.emit.fused import Written
from tdsl.lower.emit.triton import TritonSource
from tdsl.lower.facts import extents
from tdsl.lower.facts.candidates import Config
from tdsl.lower.inductor.compat.call_names import DeviceProperties, TritonKernel
from tdsl.lower.inductor.compat.candidates_in_turn import CLOSING, OPENING
from tdsl.lower.inductor.compat.narrow_grids import within_32_bits
from tdsl.lower.inductor.tuning import tuning_key
from tdsl.options import LAUNCH_OPTIONS

# What a CPU is taken to have, whichever it is: few, so that persistent programs have several tiles each.
INTERPRETED_PROCESSORS = 4
COMPILED = (
    "import triton.language as tl",
    "from tdsl.lower.runtime.autotuner import template_autotune",
    "from torch._inductor.runtime.triton_helpers import libdevice, math as tl_math",
    "triton_helpers.set_driver_to_gpu()",
)
INTERPRETED = (
    "import triton.language as tl",
    "from tdsl.lower.runtime.interpreter import absolute, interpreted, libdevice, nan_argmax, nan_argmin, nan_max, nan_min, opaque, tile_part, tl_math",
    "from tdsl.lower.runtime.interpreter import above, at_least, below, floor_divided, floor_remainder",
    "from tdsl.lower.runtime.interpreter import as_i16, normal, product, uniform",
)


@dataclass(frozen=True, kw_only=True)
class LaunchRecord:
    """All that is known of a kernel's launch, made once: its own module, Inductor's call of it, the tuning and the C++
    wrapper read it.

    `arguments` are those of the `def` line; `triton_meta` and `inductor_meta` are what Inductor calls them.
    """

    name: str
    arguments: Sequence[str]
    configs: Sequence[Config]
    triton_meta: Mapping[str, Any]
    inductor_meta: Mapping[str, Any]
    device: torch.device

    def module(self, body: Sequence[tuple[int, Written]], fused: Collection[str] = ()) -> str:
        """The text of the kernel's module, with places for what is fused, which reads the names `fused`."""
        interpreted = self.device.type == "cpu"
        read = {name for _, line in body if isinstance(line, ast.AST) for name in syntax.reads(line)}
        used = [name for name in INTRINSICS if name in read or name in fused]
        others = FOR_HIP if self.triton_meta["device"].type == "hip" else {}
        imported = [f"{others[name]} as {name}" if name in others else name for name in used]
        intrinsics = f"from tdsl.lower.runtime.intrinsics import {', '.join(imported)}"
        lines = [
            "import triton",
            "from torch._inductor.runtime import triton_helpers, triton_heuristics",
            "from torch._inductor.runtime.hints import AutotuneHint, DeviceProperties, HeuristicType",
            *(INTERPRETED if interpreted else COMPILED),
            *([intrinsics] if used and not interpreted else []),
            "",
            *(["@interpreted"] if interpreted else []),
            "@triton_heuristics.cached_autotune(" if interpreted else "@template_autotune(",
            "    size_hints=None,",
            OPENING,
            *(f"        {_spell_config(config)}," for config in self.configs),
            CLOSING,
            f"    triton_meta={dict(self.triton_meta)!r},",
            "    heuristic_type=HeuristicType.TEMPLATE,",
            "    filename=__file__,",
            f"    inductor_meta={dict(self.inductor_meta)!r},",
            "    custom_kernel=True,",
            ")",
            "@triton.jit",
            f"def {self.name}({', '.join(self.arguments)}):",
            *("    " * (indent + 1) + _written(line) for indent, line in body),
        ]
        # The wrapper holds this text between ''' on lines of their own. Asked for with exactly what stands there,
        # a compile worker that began early is found again, and does not begin twice.
        text = "\n" + "\n".join(lines) + "\n"
        assert "'''" not in text and "\\" not in text, "a kernel's text must survive being quoted"
        return text


def launch_record(
    source: TritonSource,
    kernel: ir.Kernel,
    device: torch.device,
    *,
    name: str,
    shown: str,
    arguments: Sequence[str],
    signature: Mapping[str, str],
    constants: Mapping[str, int],
    attributes: Mapping[Any, Any],
    reset: Sequence[str],
    overwritten: Sequence[str],
    sizes: Mapping[str, int],
    frees: bool,
) -> LaunchRecord:
    """The record of a launch of `source`, called `name`, or `shown` in profiles.

    `signature`: the type of each argument; `constants`: those that are always one number; `attributes`: those that are
    divisible by 16. For runs that are timed: `reset` are zeroed before each, `overwritten` are copied, `sizes` are likely
    ones, and `frees` says whether tensors may leave the GPU's memory to make room.
    """
    compiled = device.type != "cpu"
    triton_meta = {
        "signature": dict(signature),
        "device": DeviceProperties.create(device),
        "constants": dict(constants),
        "configs": [attributes],
        **(TritonKernel.triton_meta_common() if compiled else {}),
        **({"reset_to_zero": tuple(reset)} if reset else {}),
    }
    inductor_meta = {
        **launch_meta(source, device),
        "tuning": tuning_key(device, kernel, sizes if len(source.configs) > 1 else {}),
        "kernel_name": shown,
        "mutated_arg_names": [*overwritten],
        "optimize_mem": frees,
        **(TritonKernel.inductor_meta_common() if compiled else {}),
    }
    return LaunchRecord(
        name=name,
        arguments=arguments,
        # Nothing is tuned in the interpreter: it runs the first config.
        configs=source.configs if compiled else source.configs[:1],
        triton_meta=triton_meta,
        inductor_meta=inductor_meta,
        device=device,
    )


def launch_meta(source: TritonSource, device: torch.device) -> dict[str, Any]:
    """The grid of each config, for a launcher in Python and in C++, and which arguments are constants."""
    processors = INTERPRETED_PROCESSORS
    if device.type != "cpu":
        processors = DeviceProperties.create(device).multi_processor_count
    grids = {config.constants: programs(config, processors) for config in source.configs}
    return {
        "grid_type": "PrecomputedGrid",
        "precomputed_grids": [
            {
                "config": dict(constants),
                "python": [python, "1", "1"],
                "cpp": [cpp, "1", "1"],
                "python_slow": [python, "1", "1"],
            }
            for constants, (python, cpp) in grids.items()
        ],
        "extra_launcher_args": [],
        "declared_constexpr_names": [name for name, _ in source.configs[0].constants],
    }


def programs(config: Config, processors: int) -> tuple[str, str]:
    """How many programs a launch has, in Python and in C++."""
    python, cpp = extents.python(config.grid), extents.cpp(config.grid)
    if not config.persistent:
        return python, cpp if isinstance(config.grid, int) else within_32_bits(cpp)
    most = max(processors // (config.num_ctas or 1), 1)
    return f"min({python}, {most})", f"std::min<int64_t>({cpp}, {most})"


def _written(line: Written) -> str:
    return line if isinstance(line, str) else syntax.printed(line)


def _spell_config(config: Config) -> str:
    options = {name: getattr(config, name) for name in LAUNCH_OPTIONS}
    given = "".join(f", {name}={value}" for name, value in options.items() if value is not None)
    return f"triton.Config({dict(config.constants)!r}{given})"
