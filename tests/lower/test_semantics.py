"""What each construct computes, against PyTorch, with ragged sizes and poisoned outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .launch import Launch

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a CPU, in the interpreter")


@pytest.fixture(params=["static", "dynamic", "wide"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Launch:
    return Launch(
        tmp_path,
        dynamic=request.param == "dynamic",
        index_dtype="i64" if request.param == "wide" else "i32",
    )


def ints(*shape: int, low: int = -7, high: int = 8, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + 17)
    return torch.randint(low, high, shape, generator=generator).to(dtype)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


MATMUL = """
template mm(A: T[M, K], B: T[K, N]) -> C: T[M, N]
where T in (f16, bf16, f32):
    config BLOCK_M=16, BLOCK_N=32, BLOCK_K=16
    for m, n in grid(M by BLOCK_M, N by BLOCK_N, group=2):
        acc = zeros(m, n, dtype=ACC)
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""


@pytest.mark.parametrize("sizes", [(1, 1, 1), (16, 16, 32), (37, 50, 33), (5, 0, 7), (0, 3, 4)])
def test_matmul_of_ragged_and_empty_sizes(run: Launch, sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    a, b = ints(m, k), ints(k, n)
    same(run(MATMUL.replace("ACC", "f32"), A=a, B=b), a @ b)


def test_matmul_in_float64(run: Launch) -> None:
    a, b = ints(19, 21, dtype=torch.float64) / 3, ints(21, 18, dtype=torch.float64)
    text = MATMUL.replace("ACC", "f64").replace("(f16, bf16, f32)", "(f64,)")
    torch.testing.assert_close(run(text, A=a, B=b), a @ b)


@pytest.mark.parametrize("view", ["transposed", "sliced", "expanded", "offset"])
def test_strides_and_offsets(run: Launch, view: str) -> None:
    a, b = ints(37, 20), ints(20, 33)
    match view:
        case "transposed":
            a, b = ints(20, 37).T, ints(33, 20).T
        case "sliced":
            a, b = ints(74, 40)[::2, 1::2], ints(20, 99)[:, ::3]
        case "expanded":
            a, b = ints(1, 20).expand(37, 20), ints(20, 1).expand(20, 33)
        case "offset":
            a, b = ints(40, 25)[3:, 5:], ints(22, 33)[2:]
    same(run(MATMUL.replace("ACC", "f32"), A=a, B=b), a @ b)


def test_several_configs_mean_the_same(tmp_path: Path) -> None:
    text = MATMUL.replace("ACC", "f32").replace(
        "    config BLOCK_M=16, BLOCK_N=32, BLOCK_K=16\n",
        "    config BLOCK_M=16, BLOCK_N=32, BLOCK_K=16\n    config BLOCK_M=32, BLOCK_N=16, BLOCK_K=32\n",
    )
    a, b = ints(64, 64), ints(64, 64)
    for config in (0, 1):
        same(Launch(tmp_path, config=config)(text, A=a, B=b), a @ b)


def test_floor_division_and_remainder_round_down(run: Launch) -> None:
    text = """
template floored(x: i32[N], y: i32[N]) -> (q: i32[N], r: i32[N], q3: i32[N], r3: i32[N]):
    for n in grid(N by 16):
        a = load x[n]
        b = load y[n]
        store q[n] = a // b
        store r[n] = a % b
        store q3[n] = (a - 1) // 3
        store r3[n] = (a - 1) % 3
"""
    x = torch.arange(-20, 21, dtype=torch.int32)
    y = torch.where(torch.arange(41) % 2 == 0, 3, -4).to(torch.int32)
    q, r, q3, r3 = run(text, x=x, y=y)
    same(q, x // y)
    same(r, x % y)
    same(q3, (x - 1) // 3)
    same(r3, (x - 1) % 3)


def test_float_floor_division(run: Launch) -> None:
    text = """
template floored(x: f32[N], y: f32[N]) -> (q: f32[N], r: f32[N]):
    for n in grid(N by 8):
        store q[n] = load x[n] // load y[n]
        store r[n] = load x[n] % load y[n]
"""
    x, y = ints(13), ints(13, low=1)
    q, r = run(text, x=x, y=-y)
    same(q, x // -y)
    same(r, torch.remainder(x, -y))


def test_powers(run: Launch) -> None:
    text = """
template powers(x: f32[N]) -> (a: f32[N], b: f32[N], c: f32[N], d: f32[N], e: f32[N]):
    for n in grid(N by 8):
        v = load x[n]
        store a[n] = v ** 2
        store b[n] = v ** 7
        store c[n] = v ** 0
        store d[n] = (v + 9) ** 0.5
        store e[n] = v ** -2
"""
    x = ints(13)
    x[x == 0] = 1
    a, b, c, d, e = run(text, x=x)
    same(a, x**2)
    same(b, x**7)
    same(c, x**0)
    torch.testing.assert_close(d, (x + 9) ** 0.5)
    torch.testing.assert_close(e, x**-2)


def test_integer_arithmetic_promotes_as_pytorch_does(run: Launch) -> None:
    text = """
template mixed(x: i8[N], y: i32[N], u: u8[N], z: f16[N]) -> (a: i32[N], b: f16[N], c: i16[N], d: f32[N], e: i8[N]):
    for n in grid(N by 8):
        store a[n] = load x[n] * load y[n]
        store b[n] = load x[n] * load z[n]
        store c[n] = load x[n] + load u[n]
        store d[n] = load y[n] / load x[n]
        store e[n] = (load x[n] >> 1) & 3
"""
    x = ints(13, low=1, high=100, dtype=torch.int8)
    y, u, z = ints(13, dtype=torch.int32), ints(13, low=200, high=250, dtype=torch.uint8), ints(13).half()
    a, b, c, d, e = run(text, x=x, y=y, u=u, z=z)
    same(a, x * y)
    same(b, x * z)
    same(c, x + u)
    torch.testing.assert_close(d, y / x)
    same(e, (x >> 1) & 3)


REDUCE = """
template reduce(x: T[M, N]) -> y: OUT[M]
where T in (f16, bf16, f32, f64, i32, i64, i16, i8, u8):
    for m in grid(M by 4):
        n = whole(N)
        store y[m] = FUNCTION(load x[m, n], n)
"""


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.int32, torch.int8, torch.uint8, torch.float16]
)
@pytest.mark.parametrize("function", ["sum", "max", "min", "argmax", "argmin"])
def test_reductions_never_see_padding(tmp_path: Path, function: str, dtype: torch.dtype) -> None:
    # All of one sign, so that a zero from outside would win either max or min.
    for sign in (1, -1) if dtype != torch.uint8 else (1,):
        x = sign * ints(5, 21, low=1, high=6, dtype=dtype)
        names = {
            torch.float32: "f32",
            torch.float64: "f64",
            torch.int32: "i32",
            torch.int8: "i8",
            torch.uint8: "u8",
            torch.float16: "f16",
        }
        out = "i32" if function.startswith("arg") else names[dtype]
        found = Launch(tmp_path)(REDUCE.replace("FUNCTION", function).replace("OUT", out), x=x)
        wide = x.double()
        expected = {
            "sum": lambda w: w.sum(1),
            "max": lambda w: w.amax(1),
            "min": lambda w: w.amin(1),
            "argmax": lambda w: w.argmax(1),
            "argmin": lambda w: w.argmin(1),
        }[function](wide)
        same(found, expected.to(found.dtype))


def test_prefix_sums_and_reductions_over_several_tiles(run: Launch) -> None:
    text = """
template scans(x: f32[M, N]) -> (y: f32[M, N], total: f32[M], one: f32[M]):
    for b in grid(M):
        n = whole(N)
        v = load x[b, n]
        store y[b, n] = cumsum(v, n)
        store total[b] = sum(v, n)
        store one[b] = max(v, n) - min(v, n)
"""
    x = ints(3, 21)
    y, total, one = run(text, x=x)
    same(y, x.cumsum(1))
    same(total, x.sum(1))
    same(one, x.amax(1) - x.amin(1))


def test_a_reduction_over_two_tiles(run: Launch) -> None:
    text = """
template both(x: f32[B, M, N]) -> y: f32[B]:
    for b in grid(B):
        m = whole(M)
        n = whole(N)
        store y[b] = sum(load x[b, m, n] + 1, m, n)
"""
    x = ints(3, 5, 11)
    same(run(text, x=x), (x + 1).sum((1, 2)))


def test_blocks_line_up_by_name(run: Launch) -> None:
    text = """
template outer(x: f32[M, N], r: f32[M], c: f32[N], t: f32[N, M]) -> y: f32[M, N]:
    for m, n in grid(M by 8, N by 4):
        v = load c[n] + load t[n, m]
        store y[m, n] = load x[m, n] * load r[m] - v
"""
    x, r, c, t = ints(13, 9), ints(13), ints(9), ints(9, 13)
    same(run(text, x=x, r=r, c=c, t=t), x * r[:, None] - (c + t.T))


def test_dot_contracts_the_shared_tile_wherever_it_is(run: Launch) -> None:
    text = """
template tdot(A: f32[K, M], B: f32[N, K]) -> C: f32[N, M]:
    for m, n in grid(M by 16, N by 16):
        acc = zeros(n, m)
        for k in K by 16:
            acc = acc * 1 + dot(load A[k, m], load B[n, k])
        store C[n, m] = acc
"""
    a, b = ints(21, 19), ints(18, 21)
    same(run(text, A=a, B=b), b @ a)


def test_dots_that_triton_has_no_instruction_for(run: Launch) -> None:
    text = """
template vectors(A: f32[M, K], x: f32[K], P: i64[M, K], Q: i64[K, N]) -> (y: f32[M], R: i64[M, N], s: f32[1]):
    for one in grid(1):
        m = whole(M)
        k = whole(K)
        n = whole(N)
        store y[m] = dot(load A[m, k], load x[k])
        store R[m, n] = dot(load P[m, k], load Q[k, n])
        store s[one] = dot(load x[k], load x[k])
"""
    a, x = ints(5, 21), ints(21)
    p, q = ints(5, 21, dtype=torch.int64), ints(21, 3, dtype=torch.int64)
    y, r, s = run(text, A=a, x=x, P=p, Q=q)
    same(y, a @ x)
    same(r, p @ q)
    same(s, (x @ x)[None])


def test_gather_reads_else_outside(run: Launch) -> None:
    text = """
template taken(ids: i64[R], table: f32[V, N]) -> (y: f32[R, N], z: f32[R, N]):
    for r in grid(R by 4):
        n = whole(N)
        i = load ids[r]
        store y[r, n] = load table[i, n] else -1
        store z[r, n] = load table[(i % V), n] unchecked
"""
    ids = torch.tensor([0, 4, -1, 2, 5, 100, -9])
    table = ints(5, 11)
    y, z = run(text, ids=ids, table=table)
    inside = (ids >= 0) & (ids < 5)
    same(y, torch.where(inside[:, None], table[ids.clamp(0, 4)], -1.0))
    same(z, table[ids % 5])


def test_a_window_reads_else_at_the_border(run: Launch) -> None:
    text = """
template box(x: f32[H, W]) -> y: f32[H, W]:
    for h, w in grid(H by 4, W by 8):
        acc = zeros(h, w)
        for r in 3:
            for c in 3:
                acc += load x[h + r - 1, w + c - 1] else 0
        store y[h, w] = acc
"""
    x = ints(7, 11)
    window = torch.nn.functional.conv2d(x[None, None], torch.ones(1, 1, 3, 3), padding=1)[0, 0]
    same(run(text, x=x), window)


def test_a_part_of_a_dimension(run: Launch) -> None:
    text = """
template lower(x: f32[N]) -> y: f32[N]:
    for m in grid(N by 8):
        acc = zeros(m)
        for n in 0 to m.stop by 4:
            acc += sum(where(m >= n, load x[n], 0), n)
        store y[m] = acc
"""
    x = ints(29)
    same(run(text, x=x), x.cumsum(0))


def test_a_loop_over_a_block(run: Launch) -> None:
    text = """
template lower(x: f32[M, N]) -> (y: f32[M, N], z: f32[M, N], s: f32[N]):
    for m, n in grid(M by 16, N by 8):
        total = zeros(n)
        for i in m.start to m.stop:
            store y[i, n] = load x[i, n] * i
            total += load x[i, n]
        for i in m.start to m.stop by 8:
            for j in i.start to i.stop by 4:
                store z[j, n] = load x[j, n] + j
        accumulate s[n] += total
"""
    x = ints(29, 19)
    rows = torch.arange(29.0)[:, None]
    for found, right in zip(run(text, x=x), (x * rows, x + rows, x.sum(0)), strict=True):
        same(found, right)


def test_run_time_conditions(run: Launch) -> None:
    text = """
template choose(x: f32[M, N], flag: i32[M], limit: int) -> y: f32[M, N]:
    for b in grid(M):
        n = whole(N)
        v = load x[b, n]
        f = load flag[b]
        if f > limit:
            w = v * 2
        elif f == 0:
            w = -v
        else:
            w = v + 1
        store y[b, n] = w
"""
    x, flag = ints(5, 11), torch.tensor([0, 1, 2, 3, -1], dtype=torch.int32)
    f = flag[:, None]
    same(run(text, x=x, flag=flag, limit=1), torch.where(f > 1, x * 2, torch.where(f == 0, -x, x + 1)))


def test_conditions_that_take_lines_of_their_own(run: Launch) -> None:
    """What the condition of a second branch loads or calculates comes after the first branch, and once."""
    text = """
template choose(x: f32[M, N], flag: i32[M], limit: int) -> y: f32[M, N]:
    for b, n in grid(M, N by 4):
        v = load x[b, n]
        if load flag[b] > 2:
            v = v * 2
        elif limit % 3 == 1:
            v = -v
        elif load flag[b] // 2 == 0:
            v = v + 1
        else:
            v = v + 2
        store y[b, n] = v
"""
    x, flag = ints(5, 11), torch.tensor([0, 1, 2, 3, -1], dtype=torch.int32)
    f = flag[:, None]
    rest = torch.where(f // 2 == 0, x + 1, x + 2)
    same(run(text, x=x, flag=flag, limit=3), torch.where(f > 2, x * 2, rest))
    same(run(text, x=x, flag=flag, limit=-2), torch.where(f > 2, x * 2, -x))


def test_compile_time_choices(run: Launch) -> None:
    text = """
template pick(x: f32[N], b: f32[N]?, k: const int = 2, mode: const bool = false) -> y: f32[N]:
    let BLOCK = next_pow2(N)
    for n in grid(N by BLOCK):
        v = load x[n] * (k if mode else 1)
        if b:
            v += load b[n]
        store y[n] = v
"""
    x, b = ints(13), ints(13)
    same(run(text, x=x, b=None), x)
    same(run(text, x=x, b=b, mode=True, k=5), x * 5 + b)


def test_helpers_are_inlined(run: Launch) -> None:
    text = """
def within(x, low, high): return minimum(maximum(x, low), high)
def twice(x):
    y = within(x, -2, 2)
    return y + y
template helped(x: f32[N]) -> y: f32[N]:
    for n in grid(N by 8):
        store y[n] = twice(load x[n]) + within(load x[n] * 2, 0, 3)
"""
    x = ints(13)
    same(run(text, x=x), 2 * x.clamp(-2, 2) + (x * 2).clamp(0, 3))


def test_maximum_and_minimum_propagate_nan(run: Launch) -> None:
    text = """
template bounds(x: f32[N], y: f32[N]) -> (a: f32[N], b: f32[N]):
    for n in grid(N by 8):
        store a[n] = maximum(load x[n], load y[n])
        store b[n] = minimum(load x[n], 0)
"""
    x = torch.tensor([1.0, float("nan"), 3.0, -float("inf"), -0.0])
    y = torch.tensor([float("nan"), 2.0, 1.0, 0.0, 0.0])
    a, b = run(text, x=x, y=y)
    same(a, torch.maximum(x, y))
    same(b, torch.minimum(x, torch.tensor(0.0)))


def test_accumulate_adds_into_zeros(run: Launch) -> None:
    text = """
template columns(x: f32[M, N]) -> (total: f32[N], copy: f32[M, N]):
    for m, n in grid(M by 4, N by 8):
        v = load x[m, n]
        accumulate total[n] += sum(v, m)
        store copy[m, n] = v
"""
    x = ints(13, 11)
    total, copy = run(text, x=x)
    same(total, x.sum(0))
    same(copy, x)


def test_in_place(run: Launch) -> None:
    text = """
template axpy(inout y: f32[N], x: f32[N], alpha: float):
    for n in grid(N by 8):
        store y[n] = load y[n] + alpha * load x[n]
"""
    x, y = ints(13), ints(13)
    expected = y + 0.5 * x
    run(text, y=y, x=x, alpha=0.5)
    same(y, expected)


@pytest.mark.parametrize("shape", [(11,), (5, 11), (2, 3, 11), (2, 1, 3, 11), (0, 11), (4, 0)])
def test_any_number_of_leading_dimensions(run: Launch, shape: tuple[int, ...]) -> None:
    text = """
template rows(x: f32[R..., N], w: f32[N]) -> (y: f32[R..., N], s: f32[R...]):
    for r in grid(R by 4):
        n = whole(N)
        v = load x[r, n] * load w[n]
        store y[r, n] = v
        store s[r] = sum(v, n)
"""
    x, w = ints(*shape), ints(shape[-1])
    y, s = run(text, x=x, w=w)
    same(y, x * w)
    same(s, (x * w).sum(-1))


def test_leading_dimensions_that_do_not_collapse(run: Launch) -> None:
    text = """
template double(x: f32[R..., N]) -> y: f32[R..., N]:
    for r, n in grid(R by 4, N by 8):
        store y[r, n] = load x[r, n] * 2
"""
    for x in (ints(4, 6, 11)[:, ::2], ints(11, 3, 4).permute(2, 1, 0), ints(3, 1, 11).expand(3, 5, 11)):
        same(run(text, x=x), x * 2)


def test_a_dimension_that_is_arithmetic(run: Launch) -> None:
    text = """
template pairs(x: f32[N], p: f32[N // 2]) -> y: f32[N]
where N % 2 == 0:
    for n in grid(N by 8):
        store y[n] = load x[n] * load p[n // 2] + n % 2
"""
    x, p = ints(22), ints(11)
    expected = x * p.repeat_interleave(2) + torch.arange(22) % 2
    same(run(text, x=x, p=p), expected)


def test_bool_and_wide_outputs(run: Launch) -> None:
    text = """
template tests(x: f32[N], m: bool[N]) -> (big: bool[N], w: f64[N], i: i64[N]):
    for n in grid(N by 8):
        v = load x[n]
        b = (v > 2) | load m[n]
        store big[n] = b
        store w[n] = where(~b, v, 0.5)
        store i[n] = n
"""
    x, m = ints(13), ints(13) > 0
    big, w, i = run(text, x=x, m=m)
    b = (x > 2) | m
    same(big, b)
    same(w, torch.where(~b, x, 0.5).double())
    same(i, torch.arange(13))


def test_triton_calls(run: Launch) -> None:
    text = """
template direct(x: f32[N]) -> y: f32[N]:
    for n in grid(N by 8):
        y1: f32[n] = tl.clamp(load x[n], -1.0, 2.0)
        store y[n] = y1 + tl.abs(load x[n])
"""
    x = ints(13)
    same(run(text, x=x), x.clamp(-1, 2) + x.abs())


def test_nothing_outside_a_tensor_is_written(tmp_path: Path) -> None:
    text = """
template copy(x: f32[M, N]) -> y: f32[M, N]:
    for m, n in grid(M by 8, N by 8):
        store y[m, n] = load x[m, n] + 1
template bump(inout x: f32[M, N]):
    for m, n in grid(M by 8, N by 8):
        store x[m, n] = load x[m, n] + 1
"""
    frame = ints(20, 20)
    before = frame.clone()
    Launch(tmp_path)(text, name="bump", x=frame[3:14, 2:11])
    before[3:14, 2:11] += 1
    same(frame, before)


def test_integer_dots(run: Launch) -> None:
    text = MATMUL.replace("ACC", "i32").replace("(f16, bf16, f32)", "(i8,)").replace("-> C: T", "-> C: i32")
    text = text.replace("BLOCK_K=16", "BLOCK_K=32")
    a, b = ints(19, 40, dtype=torch.int8), ints(40, 18, dtype=torch.int8)
    same(run(text, A=a, B=b), (a.int() @ b.int()))


def test_quotients_keep_their_dtype(run: Launch) -> None:
    text = """
template quotients(x: T[N], y: T[N]) -> (a: f32[N], b: f32[N], c: f32[N]):
    for n in grid(N by 8):
        u = load x[n]
        v = load y[n]
        store a[n] = f32(u / v)
        store b[n] = f32(u // v)
        store c[n] = f32(u % v)
"""
    for dtype in (torch.float16, torch.float32):
        x, y = ints(13, low=1, high=50, dtype=dtype), ints(13, low=1, dtype=dtype)
        a, b, c = run(text, x=x, y=y)
        same(a, (x / y).float())
        same(b, (x // y).float())
        same(c, (x % y).float())


PREFIX_SUMS = """
template prefix(x: f32[M, N], strict: const bool) -> y: f32[M]:
    config BLOCK_M=16, BLOCK_N=8
    for m in grid(M by BLOCK_M):
        total = zeros(m)
        for n in 0 to (minimum(N, m.start) if strict else minimum(m.stop, N)) by BLOCK_N:
            total += sum(load x[m, n] + 1, n)
        store y[m] = total
"""


@pytest.mark.parametrize("sizes", [(48, 48), (48, 24), (48, 20), (37, 48), (37, 37), (16, 64)])
@pytest.mark.parametrize("strict", [True, False])
def test_loops_to_the_edge_of_another_tile(run: Launch, sizes: tuple[int, int], strict: bool) -> None:
    """Their last block is whole where every edge is a multiple of the block, and masked where not."""
    m, n = sizes
    x = ints(m, n)
    start = torch.arange(m) // 16 * 16
    stop = (start if strict else (start + 16).clamp(max=m)).clamp(max=n)
    inside = torch.arange(n) < stop[:, None]
    same(run(PREFIX_SUMS, x=x, strict=strict), ((x + 1) * inside).sum(1))


def test_a_bool_that_begins_as_a_literal_changes(tmp_path: Path) -> None:
    text = """
template found(x: f32[M, N]) -> (y: bool[M], z: i32[M]):
    for m in grid(M):
        seen = false
        twice = true
        for n in N:
            v = load x[m, n]
            if v > 3:
                twice = seen
                seen = true
            seen = seen or v == 2
        store y[m] = seen
        store z[m] = i32(not seen) + 2 * i32(twice)
"""
    x = torch.tensor([[0.0, 4, 1], [4, 0, 5], [2, 0, 0], [0, 1, 0]])
    y, z = Launch(tmp_path)(text, x=x)
    assert y.tolist() == [True, True, True, False]
    assert z.tolist() == [0, 2, 2, 3]
