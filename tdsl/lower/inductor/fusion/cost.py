"""What a prologue costs in the kernel and apart from it, by arithmetic: the rule for points that do not decide.

    load B[k, n], 4096 x 4096 bf16, in 32 blocks of m:
    sigmoid(B)        16 operations and 6, 31 times too often   fused 398 us   apart 25 us   -> apart
    q.to(bf16) * s    2 operations and 6, likewise              fused 145 us   apart 25 us   -> apart
    the same, 16 rows of A: no element is loaded twice          fused 0 us     apart 25 us   -> fused

Both ways the work is done once. A kernel does it for each element that it loads, as often as it loads it, and reads
what the work reads instead of what it writes; apart its result is written and read back, for one more launch. These
are estimates for a GPU of the Hopper class, the same on every machine: what is fused must not depend on where a
graph was compiled.
"""

from __future__ import annotations

from dataclasses import dataclass

from tdsl.lower.inductor.fusion.facts import Call, Effort
from tdsl.refusal import Reason

# NVIDIA's data sheet of the H100 SXM: 132 multiprocessors, 128 lanes each, 1.7 GHz under load.
OPERATIONS_PER_SECOND = 132 * 128 * 1.7e9
BYTES_PER_SECOND = 3.0e12  # as copies reach on it
CACHE_BYTES_PER_SECOND = 6.0e12  # from its L2, as microbenchmarks read it
LAUNCH = 3e-6  # seconds: a kernel's start and end on the GPU
# An operand of a matrix product that is computed, not copied, goes through registers, and the product waits for it. On
# an H200, 4096^3 in bf16 took 108 us more with int8 weights made bf16 at the point, loaded 32 times (best of ten configs
# either way): as long as this many operations on each.
OPERAND = 6

# In operations of one lane. A special function unit takes one lane's value where eight lanes multiply (CUDA's
# programming guide, throughput of arithmetic instructions, 9.0); most functions take one or two and some more.
SPECIAL = 8
OPERATIONS = {
    **dict.fromkeys(("load", "store", "output", "constant", "get_index", "masked"), 0),
    **dict.fromkeys(("exp", "exp2", "log2", "rsqrt", "sqrt", "reciprocal", "truediv", "div"), SPECIAL),
    **dict.fromkeys(("sigmoid", "tanh", "erf", "log", "log1p", "expm1", "sin", "cos", "silu"), 2 * SPECIAL),
    **dict.fromkeys(("pow", "fmod", "mod", "remainder", "floordiv", "truncdiv", "tan", "atan2"), 4 * SPECIAL),
    **dict.fromkeys(("rand", "randn", "randint64", "philox", "lgamma", "digamma", "erfinv"), 8 * SPECIAL),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds that either way takes and the other does not, and what they are made of."""

    loaded: float  # times that the kernel loads each element
    operations: int  # of one element
    read: int  # bytes that the work reads, all elements together
    written: int
    fused: float
    apart: float


def costs_more_fused(call: Call, effort: Effort) -> Reason | None:
    """Why work that could move into `call` had better not. None: it may, or a point says `fuse`."""
    for buffer in effort.written:
        loads = [load for load in call.loads if load.buffer == buffer]
        if not loads or any(load.always for load in loads):
            continue
        cost = estimate(call, effort, buffer)
        if cost.fused <= cost.apart:
            continue
        return Reason(
            text=f"computing it there costs about {_shown(cost.fused)}, keeping it apart {_shown(cost.apart)} "
            f"(each element is loaded {cost.loaded:.0f} times; {cost.operations} operations on it, "
            f"{cost.read:,} bytes read, {cost.written:,} written)",
            help=f"'{loads[0].text} fuse' fuses it whatever it costs",
        )
    return None


def estimate(call: Call, effort: Effort, buffer: str) -> Cost:
    """The cost of pointwise work that makes `buffer`, which a call loads."""
    loads = sum(load.elements for load in call.loads if load.buffer == buffer)
    elements, read, written = effort.elements, effort.read, effort.written[buffer]
    operations = sum(OPERATIONS.get(name, 1) * count for name, count in effort.operations.items())
    again = max(loads - elements, 0)
    computing = again * (operations + OPERAND * call.multiplies) / OPERATIONS_PER_SECOND
    if not call.multiplies:
        # It waits for memory: about half of that time is free for a prologue's arithmetic.
        computing = max(0.0, computing - call.moved / BYTES_PER_SECOND / 2)
    return Cost(
        loaded=loads / elements,
        operations=operations,
        read=read,
        written=written,
        # Fewer bytes are no gain where they come from a cache: what waits there is the arithmetic.
        fused=computing + again * max(read - written, 0) / elements / CACHE_BYTES_PER_SECOND,
        apart=LAUNCH + 2 * written / BYTES_PER_SECOND,
    )


def _shown(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds >= 1e-5 else f"{seconds * 1e6:.1f} us"
