"""What kernels without tdsl are run on, and what they mean: for `test_standalone.py`, and a script of its own.

    python -I tests/standalone/cases.py FOLDER            prints a line for each case: its name, and 'right' or what is wrong
    python -I tests/standalone/cases.py FOLDER compile    compiles what would be launched, for a GPU, instead

The script imports no tdsl, and cannot: a file in the folder has all that its kernel needs.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Case(NamedTuple):
    """A template (of an example, of the golden behind `golden/`, of `templates.tdsl` behind `own/`), the options of `tdsl show --standalone`, the sizes
    of some calls, their arguments, and what the kernel means."""

    template: str
    options: str
    sizes: Sequence[tuple[int, ...]]
    arguments: Callable[..., tuple[Any, ...]]
    reference: Callable[..., Any]


def randn(*shape: int, dtype: str = "float32") -> Any:
    import torch

    return torch.randn(shape).to(getattr(torch, dtype))


def whole(high: int, *shape: int, dtype: str = "int64", low: int = 0) -> Any:
    import torch

    return torch.randint(low, high, shape).to(getattr(torch, dtype))


def matmul(A: Any, B: Any) -> Any:
    return (A.float() @ B.float()).to(A.dtype)


def apart(matrix: Any) -> Any:
    """The same numbers, every second in memory, and transposed."""
    import torch

    wide = torch.full((matrix.shape[1], 2 * matrix.shape[0]), float("nan")).to(matrix.dtype).T[::2]
    return wide.copy_(matrix)


def attention(q: Any, k: Any, v: Any, scale: float, causal: bool = False) -> Any:
    import torch

    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


def layer_norm(x: Any, w: Any, b: Any, eps: float) -> Any:
    import torch

    y = torch.nn.functional.layer_norm(x, x.shape[-1:], w, b, eps)
    return y, x.mean(-1), (x.var(-1, correction=0) + eps).rsqrt()


def rms_norm(x: Any, w: Any, eps: float) -> Any:
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * w


def embed(ids: Any, table: Any) -> Any:
    import torch

    inside = (ids >= 0) & (ids < len(table))
    return torch.where(inside[:, None], table[torch.where(inside, ids, 0)], 0)


def int4_matmul(A: Any, Q: Any, S: Any, G: int) -> Any:
    import torch

    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    weights = ((Q[:, None, :] >> shifts[:, None]) & 15) - 8
    return A @ (weights.flatten(0, 1).to(A.dtype) * S.repeat_interleave(G, 0))


def swiglu(x: Any, gate: Any, up: Any) -> Any:
    import torch

    return torch.nn.functional.silu(x @ gate) * (x @ up)


def blur(x: Any) -> Any:
    import torch

    padded = torch.nn.functional.pad(x, (1, 1))
    return padded[:-2] + padded[2:]


def branches(x: Any, limit: int, mode: str) -> Any:
    v = x * 2
    return v + limit if limit > 4 else -v if limit > 2 else v


def functions(x: Any, z: Any, i: Any) -> Any:
    import torch

    c = (x > 0.5).int() + 2 * (x >= 0.25).int() + 4 * (x < -1).int()
    return x.tanh() + z.erf() + torch.atan2(x, z) + x.round(), x // z + x % z, c, i.abs(), x.abs()


def along(x: Any) -> Any:
    return x.amax(1), x.argmax(1).int(), x.argmin(1).int(), x.prod(1)


def with_nan(x: Any) -> Any:
    x[0, 3] = float("nan")
    return x


def groups(x: Any, B: int, w: Any) -> Any:
    return x.unflatten(0, (-1, B)).sum(1) * w


def scaled(x: Any, w: Any) -> Any:
    return x * w, x.float().amin(1)


def top(x: Any) -> Any:
    return x.amax(-1), x.argmax(-1).int(), x.float().mean(-1)


def unpack(Q: Any, s: Any) -> Any:
    import torch

    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    return (((Q[:, None, :] >> shifts[:, None]) & 15) - 8).flatten(0, 1) * s[:, None]


CASES = {
    "attention": Case(
        "attention",
        "--shape D=16 --dtype T=f32 --config 4",
        [(1, 2, 70, 33), (2, 1, 5, 64)],
        lambda b, h, m, n: (randn(b, h, m, 16), randn(b, h, n, 16), randn(b, h, n, 16), 0.3),
        attention,
    ),
    "attention_causal": Case(
        "attention",
        "--shape D=8 --dtype T=f32 --const causal=true",
        [(1, 2, 70)],
        lambda b, h, m: (*(randn(m, h, b, 8).transpose(0, 2) for _ in range(3)), 0.3, True),
        attention,
    ),
    "axpy": Case("axpy", "", [(1100,), (3,)], lambda n: (randn(n), randn(2 * n)[::2], 3), lambda y, x, a: y + a * x),
    "embed": Case("embed", "--dtype T=f16", [(7, 5, 33)], lambda r, v, n: (whole(v + 2, r, low=-2), randn(v, n, dtype="float16")), embed),
    "int4_matmul": Case(
        "int4_matmul",
        "--const G=32 --dtype T=f32",
        [(9, 50, 96), (33, 7, 32)],
        lambda m, n, k: (randn(m, k), whole(2**31, k // 8, n, dtype="int32", low=-(2**31)), randn(k // 32, n), 32),
        int4_matmul,
    ),
    "layer_norm": Case(
        "layer_norm", "--shape N=50 --dtype T=f32", [(3, 7), (1, 1)], lambda a, b: (randn(a, b, 50), randn(50), randn(50), 1e-5), layer_norm
    ),
    "layer_norm_plain": Case(
        "layer_norm", "--shape N=50 --dtype T=f32 --without b", [(5,)], lambda a: (randn(50, a).T, randn(50), None, 1e-5), layer_norm
    ),
    "matmul": Case("matmul", "--dtype T=f32", [(70, 90, 50), (1, 3, 300)], lambda m, k, n: (randn(m, k), apart(randn(k, n))), matmul),
    "matmul_f16": Case(
        "matmul", "--dtype T=f16 --config 7 --index i64", [(70, 90, 50)], lambda m, k, n: (randn(m, k, dtype="float16"), randn(n, k, dtype="float16").T), matmul
    ),
    "matmul_subtiles": Case("matmul", "--dtype T=f32 --config 1", [(130, 33, 270)], lambda m, k, n: (randn(m, k), randn(k, n)), matmul),
    "rms_norm": Case("rms_norm", "--shape N=70 --dtype T=f32", [(3, 5), (1, 1)], lambda a, b: (randn(a, b, 70), randn(70), 1e-5), rms_norm),
    "softmax": Case("softmax", "--shape N=33 --dtype T=f32", [(3, 5)], lambda a, b: (randn(a, b, 33),), lambda x: x.softmax(-1)),
    "softmax_long": Case("softmax", "--shape N=20000 --dtype T=f32 --config 0", [(2,)], lambda a: (randn(a, 20000),), lambda x: x.softmax(-1)),
    "swiglu": Case("swiglu", "--dtype T=f32", [(70, 40, 50)], lambda m, k, n: (randn(m, k), randn(k, n), randn(k, n)), swiglu),
    "accumulate": Case("golden/accumulate", "", [(70, 90)], lambda m, n: (randn(m, n),), lambda x: x.sum(0)),
    "branches": Case("golden/branches", "--const mode=two", [(0, 130), (3, 130), (2**40, 5)], lambda limit, n: (randn(n), limit, "two"), branches),
    "edges": Case("golden/edges", "", [(1,), (300,)], lambda n: (randn(n),), blur),
    "epilogue_subtile": Case(
        "golden/epilogue_subtile", "--shape N=256 --dtype T=f32 --config 0", [(100,), (3,)], lambda m: (randn(m, 256), randn(256)), scaled
    ),
    "gather": Case("golden/gather", "--dtype T=f32", [(7, 5, 33)], lambda r, v, n: (whole(v + 2, r, low=-2), randn(v, n)), embed),
    "inout": Case("golden/inout", "", [(1100,)], lambda n: (randn(2 * n)[::2], randn(n), 0.1), lambda y, x, a: y + a * x),
    "loop_sum": Case("golden/loop_sum", "--shape N=100", [(64,), (5,)], lambda m: (randn(m, 100),), lambda x: x.exp().sum(1)),
    "matmul_even": Case("golden/matmul_even", "--shape M=128 N=64 K=64 --dtype T=f32", [(128, 64, 64)], lambda m, k, n: (randn(m, k), randn(k, n)), matmul),
    "matmul_open": Case("golden/matmul_open", "--dtype T=f32", [(70, 3, 90), (0, 4, 5), (4, 0, 5)], lambda m, k, n: (randn(m, k), randn(k, n)), matmul),
    "nofuse": Case("golden/nofuse", "", [(130,)], lambda n: (randn(n),), lambda x: x + 1),
    "odd_names": Case("golden/odd_names", "", [(130,)], lambda n: (randn(n), randn(n)), lambda x, y: x * y),
    "optional": Case("golden/optional", "--dtype T=f16", [(300,)], lambda n: (randn(n, dtype="float16"), randn(n, dtype="float16")), lambda x, b: x + b),
    "part_of_a_dimension": Case("golden/part_of_a_dimension", "", [(70,)], lambda m: (randn(m, m),), lambda x: x.tril().sum(1)),
    "persistent": Case("golden/persistent", "--dtype T=f32 --config 1", [(100, 33, 270), (1, 1, 1)], lambda m, k, n: (randn(m, k), randn(k, n)), matmul),
    "persistent_tuned": Case("golden/persistent", "--dtype T=f32", [(100, 33, 270)], lambda m, k, n: (randn(m, k), randn(k, n)), matmul),
    "reduce_ragged": Case("golden/reduce_ragged", "--shape N=70 --dtype T=f32", [(3, 2), (1, 1)], lambda a, b: (randn(a, b, 70),), top),
    "running_sum": Case("golden/running_sum", "--shape N=50", [(5,)], lambda m: (randn(m, 50),), lambda x: x.cumsum(1)),
    "tma": Case(
        "golden/tma", "--dtype T=f32", [(70, 33, 90)], lambda m, k, n: (randn(m, k), randn(k, n), randn(n)), lambda A, B, s: matmul(A, B) * s
    ),
    "triton_call": Case("golden/triton_call", "", [(130,)], lambda n: (randn(n),), lambda x: (x.sin(), x.exp2())),
    "tune": Case("golden/tune", "", [(3000,)], lambda n: (randn(n),), lambda x: x * 2),
    "unpack": Case(
        "golden/unpack", "", [(64, 33), (8, 1)], lambda k, n: (whole(2**31, k // 8, n, dtype="int32", low=-(2**31)), randn(k)), unpack
    ),
    "functions": Case(
        "own/functions", "", [(130,)], lambda n: (randn(n), randn(n), whole(2**15, n, dtype="int16", low=-(2**15))), functions
    ),
    "along": Case("own/along", "--shape N=21", [(5,), (1,)], lambda m: (with_nan(randn(m, 21)),), along),
    "double": Case(
        "own/double", "", [(70,)], lambda n: (randn(n, dtype="float64"), randn(), 0.1), lambda x, s, step: x * step + s.double()
    ),
    "windows": Case(
        "own/windows", "--const out=f16", [(70,), (1,)],
        lambda n: (randn(n), __import__("torch").float16, 3), lambda x, out, scale: ((x[:-1] + x[1:]) * scale).to(out),
    ),
    "groups": Case("own/groups", "", [(12, 3, 33), (5, 1, 3)], lambda m, b, n: (randn(m, n), b, randn(m // b, n)), groups),
    "add_rows": Case("own/add_rows", "", [(2, 3, 33)], lambda a, b, n: (randn(a, b, n), randn(b, a, n).transpose(0, 1)), lambda y, x: y + x),
    "parts": Case(
        "own/parts", "", [(6, 70), (4, 1)], lambda m, n: (randn(m, n), randn(m // 4 + 1, n), 2), lambda x, q, k: x[::4] + q[: -(-len(x) // 4)] + k
    ),
    "ranks": Case("own/ranks", "", [(5,), (0,)], lambda n: (randn(n), randn()), lambda x, lr: (x * lr, x.sum())),
}  # fmt: skip


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name_in(path: Path) -> str:
    """The launcher's: the first word of the file."""
    return path.read_text(encoding="utf-8").partition(":")[0].removeprefix('"""')


def compare(case: Case, path: Path, device: str) -> None:
    """Raises AssertionError where a call of the file's launcher differs from its reference."""
    import torch

    launch = getattr(load(path), name_in(path))
    for sizes in case.sizes:
        given = case.arguments(*sizes)
        wanted = case.reference(*given)
        moved = [
            value.to(device) if isinstance(value, torch.Tensor) and device != "cpu" else value
            for value in given
        ]
        got = launch(*moved)
        # What writes in place returns nothing, and its first argument is what the reference returns.
        got = moved[0] if got is None else got
        pairs = zip(got, wanted, strict=True) if isinstance(got, tuple) else [(got, wanted)]
        for ours, theirs in pairs:
            tolerance = {torch.float16: 2e-2, torch.float64: 1e-14}.get(theirs.dtype, 1e-4)
            torch.testing.assert_close(ours.cpu(), theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


def compile_launches(case: Case, path: Path) -> None:
    """Compiles to machine code for a GPU that need not be there what each of the launcher's calls would launch."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compiled
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction, mangle_type

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        values = dict(zip(self.arg_names, args, strict=False)) | kwargs
        # An integer that is 1 is a constant for Triton.
        fixed = {
            p.name
            for p in self.params
            if p.is_constexpr or (type(values[p.name]) is int and values[p.name] == 1)
        }
        constants = {name: values[name] for name in fixed}
        programs = grid(constants) if callable(grid) else grid
        assert len(programs) == 1 and programs[0] >= 1
        signature = {
            p.name: "constexpr" if p.name in fixed else p.annotation_type or mangle_type(values[p.name])
            for p in self.params
        }
        options = {name: value for name, value in kwargs.items() if name not in self.arg_names}
        compiled(ASTSource(self, signature, constants), target=GPUTarget("cuda", 90, 32), options=options)

    def run_all(self: Any, *args: Any, **kwargs: Any) -> None:
        assert len(self.configs) > 1
        for config in (self.configs[0], self.configs[-1]):
            self.fn.run(*args, **kwargs, **config.all_kwargs())

    JITFunction.run, Autotuner.run = run, run_all  # type: ignore[method-assign]
    module = load(path)
    module.check_device = lambda **tensors: None
    torch.cuda.get_device_properties = lambda device: type("", (), {"multi_processor_count": 132})  # type: ignore[assignment]
    for sizes in {case.sizes[0], case.sizes[-1]}:
        getattr(module, name_in(path))(*case.arguments(*sizes))


def main(folder: Path, compiling: bool) -> None:
    sys.modules["tdsl"] = None  # type: ignore[assignment]
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for path in sorted(folder.glob("*.py")):
        try:
            if compiling:
                compile_launches(CASES[path.stem], path)
            else:
                compare(CASES[path.stem], path, device)
        except Exception as error:
            traceback.print_exc()
            print(f"{path.stem} {type(error).__name__}: {' '.join(str(error).split())}")
        else:
            print(f"{path.stem} right")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "compile" in sys.argv[2:])
