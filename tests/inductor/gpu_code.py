"""What Inductor makes for a GPU, on a machine without one: its code for fake CUDA tensors, and machine code of
the Triton kernels in it. Run as a program it does so for the programs below and prints what it found; Triton
must not be in its interpreter. What a GPU would be asked for is answered here, as an H100 would."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import triton
from torch._dynamo.source import ConstantSource
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime import triton_helpers, triton_heuristics
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

H100 = DeviceProperties(
    type="cuda",
    index=0,
    multi_processor_count=132,
    cc=90,
    major=9,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    warp_size=32,
)
MI300 = H100._replace(
    type="hip",
    multi_processor_count=304,
    cc="gfx942",
    regs_per_multiprocessor=131072,
    warp_size=64,
)
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


def generate(
    program: Callable[..., Any],
    args: Sequence[Any],
    *,
    dynamic: bool = False,
    properties: DeviceProperties = H100,
) -> str:
    """The module that Inductor writes for `program` on a GPU. `args` may have CPU tensors."""
    fake = FakeTensorMode(shape_env=ShapeEnv())
    args = [
        _on_gpu(fake, a, f"a{at}", dynamic) if isinstance(a, torch.Tensor) else a for at, a in enumerate(args)
    ]
    graph_module = make_fx(program, tracing_mode="fake", decomposition_table=select_decomp_table())(*args)
    placeholders = [node.meta["val"] for node in graph_module.graph.nodes if node.op == "placeholder"]
    fake_mode = next(v.fake_mode for v in placeholders if isinstance(v, torch.Tensor))
    answers = {
        "torch.utils._triton.triton_hash_with_backend": lambda: "backend",
        "torch.cuda.get_device_properties": lambda device=None: properties,
        "torch.cuda.get_device_capability": lambda device=None: (9, 0),
        "torch.cuda.get_device_name": lambda device=None: "NVIDIA H100",
        "torch.cuda.current_device": lambda: 0,
        "torch._inductor.scheduler.has_triton": lambda: True,
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(DeviceProperties, "create", lambda device: properties))
        for name, answer in answers.items():
            stack.enter_context(mock.patch(name, answer))
        stack.enter_context(V.set_fake_mode(fake_mode))
        graph = GraphLowering(
            graph_module, shape_env=fake_mode.shape_env, example_inputs=placeholders, is_inference=True
        )
        stack.enter_context(V.set_graph_handler(graph))
        stack.enter_context(V.set_debug_handler(DebugContext()))
        graph.run(*placeholders)
        code, _ = graph.codegen()
    return str(code.value)


def _on_gpu(fake: FakeTensorMode, tensor: torch.Tensor, name: str, dynamic: bool) -> torch.Tensor:
    """A fake tensor on a GPU; `dynamic`: every size of its that is not 0 or 1 may vary."""
    kind = DimDynamic.DYNAMIC if dynamic else DimDynamic.STATIC
    varying = StatelessSymbolicContext(dynamic_sizes=[kind] * tensor.dim())
    here = fake.from_tensor(tensor, source=ConstantSource(name), symbolic_context=varying)
    with fake:
        return torch.empty_strided(here.shape, here.stride(), dtype=tensor.dtype, device="cuda:0")


_KERNEL = re.compile(r"(\w+) = async_compile\.triton\('\w+', '''\n(.*?)''', device_str='cuda'\)", re.DOTALL)


def kernels(code: str) -> dict[str, str]:
    """The text of each Triton kernel's module in Inductor's code, by name."""
    return dict(_KERNEL.findall(code))


def compile_kernel(name: str, text: str, target: GPUTarget) -> list[Any]:
    """The kernel of a module, compiled for `target`, once per config."""
    captured: dict[str, Any] = {}

    def capture(**kwargs: Any) -> Callable[[Any], Any]:
        captured.update(kwargs)
        return lambda function: function

    with (
        mock.patch.object(triton_heuristics, "cached_autotune", capture),
        mock.patch.object(triton_helpers, "set_driver_to_gpu", lambda: None),
    ):
        function = getattr(_load(name, text), name)
    meta = captured["triton_meta"]
    compiled = []

    def current_target() -> GPUTarget:
        return target

    current_target.__triton_builtin__ = True  # type: ignore[attr-defined]
    for config in captured["configs"]:
        source = ASTSource(
            fn=function,
            signature=meta["signature"],
            constexprs={**meta["constants"], **config.kwargs},
            attrs=meta["configs"][0],
        )
        options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
        with mock.patch("triton.language.target_info.current_target", current_target):
            compiled.append(triton.compile(source, target=target, options=options))
    grids = {tuple(grid["python"]) for grid in captured["inductor_meta"]["precomputed_grids"]}
    assert grids and captured["inductor_meta"]["grid_type"] == "PrecomputedGrid"
    return compiled


def _load(name: str, text: str) -> ModuleType:
    file = Path(tempfile.mkdtemp()) / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PRODUCT = """
template product(a: f64[M, K], b: f16[K, N]) -> c: f64[M, N]:
    for m, n in grid(M by 16, N by 32):
        acc = zeros(m, n, dtype=f64)
        for k in K by 16:
            acc += dot(load a[m, k], f64(load b[k, n]) * 2)
        store c[m, n] = acc
"""


LARGEST = """
template largest(a: f32[M, N], d: bf16[M]) -> y: f64[M, N]:
    config BLOCK_M=16, num_warps=2
    for m, n in grid(M by BLOCK_M, N by 16):
        x = where(n != 40, load a[m, n], 0.0)
        z = where(x == load a[M - 1 - m, n], x, load a[M - 1 - m, n])
        store y[m, n] = where(z >= load d[m], z, load d[m])
"""


WIDENED = """
template widened(x: f8e4m3[N], z: f64[N]) -> (y: f64[N], w: f8e5m2[N]):
    for n in grid(N by 128):
        store y[n] = f64(load x[n])
        store w[n] = f8e5m2(load z[n])
"""

BORDER = """
template border(a: f32[M, N]) -> y: f32[2 * M, N + 1]:
    for p, q in grid(2 * M by 4, N + 1 by 16):
        store y[p, q] = load a[p, q - 1] else 0.0

template borders(a: f32[M, N]) -> (y: f32[2 * M, N + 1], z: f32[2 * M, N + 1]):
    for p, q in grid(2 * M by 4, N + 1 by 16):
        v = load a[p, q - 1] else 0.0
        store y[p, q] = v
        store z[p, q] = v + 1
"""


def bordering(a: torch.Tensor) -> torch.Tensor:
    return F.pad(a, (1, 0, 0, a.shape[0]))


def programs() -> dict[str, tuple[Callable[..., Any], Sequence[Any]]]:
    import tdsl
    from tdsl.testing import load_module

    product = tdsl.template(source=PRODUCT, name="product")(lambda a, b: a @ (b.double() * 2))
    largest = tdsl.template(source=LARGEST, name="largest")(lambda a, d: a.double())
    widened = tdsl.template(source=WIDENED, name="widened")(
        lambda x, z: (x.double(), z.to(torch.float8_e5m2))
    )
    border = tdsl.template(source=BORDER, name="border")(bordering)
    borders = tdsl.template(source=BORDER, name="borders")(lambda a: (bordering(a), bordering(a) + 1))
    t = load_module(Path(__file__).with_name("templates.py"))

    def randn(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(shape).to(dtype)

    def outputs(x: torch.Tensor, w: torch.Tensor) -> Any:
        y, mean, rstd = t.ln(torch.tanh(x), w, w, 1e-5)
        return torch.relu(y) + x, mean * 2, y.float() / rstd.unsqueeze(-1)

    def several_doubles(a: torch.Tensor, d: torch.Tensor, c: torch.Tensor) -> Any:
        y = largest(a, d)
        return (c < y).double(), y * 2, torch.add(y * 2, a, alpha=2)

    def float8(x: torch.Tensor, z: torch.Tensor) -> Any:
        y, w = widened(x.int().to(x.dtype), z.to(torch.float8_e5m2).double())
        return y.to(x.dtype), y + 1, w.double() * 2, w.bool()

    def bordered(x: torch.Tensor) -> Any:
        y = border(border(x) * 2)
        (one, other) = borders(y.sin())
        return torch.triu(y, 0), one.cos(), other * 2

    @torch.func.functionalize
    def in_place(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        t.axpy(y.view(-1), x * 2, 2.0)
        return y

    return {
        "founding": (
            lambda a, b, c: torch.relu(t.mm(a, torch.sigmoid(b))) * c,
            (randn(70, 50), randn(50, 90), randn(90)),
        ),
        "even": (
            lambda a, b, c: F.gelu(t.mm(a, b.to(torch.bfloat16)) + c) * 2,
            (randn(128, 64), randn(64, 128, dtype=torch.float32), randn(128)),
        ),
        "f32": (
            lambda a, b: torch.exp(t.mm(a, b)),
            (randn(70, 50, dtype=torch.float32), randn(50, 90, dtype=torch.float32)),
        ),
        "f64 of f16": (
            lambda a, b: product(a.double(), b) + 1,
            (randn(40, 50, dtype=torch.float16), randn(50, 33, dtype=torch.float16)),
        ),
        "f64": (
            lambda a, b: torch.sqrt(t.ew(a, b).abs()),
            (randn(20, 33, dtype=torch.float64), randn(20, 33, dtype=torch.float64)),
        ),
        # Triton 3.7 cannot compile this where it does not see the cast of what is stored.
        "f64 of f32": (
            several_doubles,
            (randn(32, 32, dtype=torch.float32), randn(32), randn(32, 1, dtype=torch.float64)),
        ),
        "outputs": (outputs, (randn(3, 7, 40), randn(40))),
        "scalars": (lambda x, w: [o * 2 for o in t.ln(x * 3, w, None, 1e-5)], (randn(40), randn(40))),
        "softmax": (lambda x: t.sm(x + 1) * 2, (randn(33, 100),)),
        "few bytes": (lambda x: t.sm(x + 1), (randn(4, 1),)),
        "float8": (float8, (randn(256, dtype=torch.float8_e4m3fn), randn(256, dtype=torch.float64))),
        # Strides that are sums.
        "bordered": (bordered, (randn(7, 15, dtype=torch.float32),)),
        "in place": (in_place, (randn(10, 20, dtype=torch.float32), randn(200, dtype=torch.float32))),
        "sums": (lambda x: t.column_sums(x) + 1, (randn(70, 33),)),
        "embed": (lambda i, e: t.embed(i, e * 2) + 1, (torch.zeros(17, dtype=torch.int64), randn(30, 70))),
        "one": (
            lambda a, b, c: torch.relu(t.mm(a, torch.sigmoid(b))) * c,
            (randn(1, 1), randn(1, 1), randn(1)),
        ),
    }


def main(target: str) -> None:
    properties = MI300 if TARGETS[target].backend == "hip" else H100
    for name, (program, args) in programs().items():
        for dynamic in (False, True):
            if dynamic and name not in ("founding", "outputs", "bordered"):
                continue
            found = kernels(generate(program, args, dynamic=dynamic, properties=properties))
            for kernel, text in found.items():
                # Triton 3.7 has no product in f64 for AMD's.
                if "HeuristicType.TEMPLATE" in text and not (name == "f64 of f16" and properties is MI300):
                    assert compile_kernel(kernel, text, TARGETS[target])
            print(f"{name}{' dynamic' if dynamic else ''}: {len(found)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
