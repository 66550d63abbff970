"""What a prologue costs in the kernel and apart from it, by arithmetic: the rule for points that do not decide.

    load B[k, n], 4096 x 4096 bf16, in 32 blocks of m:
    sigmoid(B)        16 operations and 6, 31 times too often   fused 394 us   apart 25 us   -> apart
    q.to(bf16) * s    2 operations and 6, likewise              fused 143 us   apart 25 us   -> apart
    the same, 16 rows of A: no element is loaded twice          fused 0 us     apart 25 us   -> fused

Both ways the work is done once. A kernel does it for each element that it loads, as often as it loads it, and reads
what the work reads instead of what it writes; apart its result is written and read back, for one more launch. These
are estimates for a GPU of the Hopper class, the same on every machine: what is fused must not depend on where a
graph was compiled.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tdsl import ir
from tdsl.lower.inductor.buffer import TemplateCall
from tdsl.lower.inductor.compat.names import (
    BaseSchedulerNode,
    SchedulerNode,
    V,
    size_hint,
    sympy_product,
)
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


def too_dear(call: TemplateCall, producer: BaseSchedulerNode) -> Reason | None:
    """Why `producer`, which could move into `call`, had better not. None: it may, or a point says `fuse`."""
    for buffer in producer.get_buffer_names():
        slots = [slot for slot in call.source.load_slots() if call.tensors[slot.param].get_name() == buffer]
        if not slots or any(slot.always for slot in slots):
            continue
        cost = estimate(call, producer, buffer)
        if cost.fused <= cost.apart:
            continue
        return Reason(
            text=f"computing it there costs about {_shown(cost.fused)}, keeping it apart {_shown(cost.apart)} "
            f"(each element is loaded {cost.loaded:.0f} times; {cost.operations} operations on it, "
            f"{cost.read:,} bytes read, {cost.written:,} written)",
            help=f"'{slots[0].span.text if slots[0].span else 'load'} fuse' fuses it whatever it costs",
        )
    return None


def estimate(call: TemplateCall, producer: BaseSchedulerNode, buffer: str) -> Cost:
    """The cost of pointwise work that makes `buffer`, which a call loads."""
    loads = sum(
        slot.elements for slot in call.source.load_slots() if call.tensors[slot.param].get_name() == buffer
    )
    parts = [part for part in producer.get_nodes() if isinstance(part, SchedulerNode)]
    elements = max(1, *(size_hint(sympy_product(part.get_ranges()[0])) for part in parts))
    counts: Counter[str] = Counter()
    traffic: dict[str, int] = {}
    for part in parts:
        counts.update(part._body.op_counts)
        for name, size in part.get_read_write_buffer_accesses(True, False).items():
            traffic[name] = max(size, traffic.get(name, 0))
    inside = producer.get_buffer_names()
    read = sum(size for name, size in traffic.items() if name not in inside)
    made = V.graph.get_buffer(buffer)
    written = size_hint(sympy_product(made.get_size())) * made.get_dtype().itemsize
    operations = sum(OPERATIONS.get(name, 1) * count for name, count in counts.items())
    products = any(isinstance(node, ir.Dot) for node in ir.walk(call.kernel))
    again = max(loads - elements, 0)
    computing = again * (operations + OPERAND * products) / OPERATIONS_PER_SECOND
    if not products:
        # It waits for memory: about half of that time is free for a prologue's arithmetic.
        computing = max(0.0, computing - _moved(call) / BYTES_PER_SECOND / 2)
    return Cost(
        loaded=loads / elements,
        operations=operations,
        read=read,
        written=written,
        # Fewer bytes are no gain where they come from a cache: what waits there is the arithmetic.
        fused=computing + again * max(read - written, 0) / elements / CACHE_BYTES_PER_SECOND,
        apart=LAUNCH + 2 * written / BYTES_PER_SECOND,
    )


def _moved(call: TemplateCall) -> int:
    """Bytes of all tensors of a call."""
    layouts = [
        *(node.get_layout() for node in call.tensors.values()),
        *(result.layout for result in call.results.values()),
    ]
    return sum(size_hint(sympy_product(layout.size)) * layout.dtype.itemsize for layout in layouts)


def _shown(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds >= 1e-5 else f"{seconds * 1e6:.1f} us"
