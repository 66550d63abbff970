"""Templates that write to their arguments: always as PyTorch, and one kernel where nothing else sees the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tdsl
from tdsl import TdslError
from tdsl.testing import assert_fused, assert_same_bits, copy_arguments, count_kernels, load_module

t = load_module(Path(__file__).with_name("templates.py"))
axpy, swap = t.axpy, t.swap

TEXT = """
template rotate(inout q: f32[M, N], inout k: f32[M, N], c: f32[M, N]) -> s: f32[M, N]:
    config BLOCK_M=16, BLOCK_N=32
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        a = load q[m, n]
        b = load k[m, n]
        d = load c[m, n]
        store q[m, n] = a * d
        store k[m, n] = b + d
        store s[m, n] = a + b

template add_mm(inout C: f32[M, N], A: f32[M, K], B: f32[K, N]):
    config BLOCK_M=32, BLOCK_N=32, BLOCK_K=32
    for m, n in grid(M by BLOCK_M, N by BLOCK_N):
        acc = load C[m, n]
        for k in K by BLOCK_K:
            acc += dot(load A[m, k], load B[k, n])
        store C[m, n] = acc
"""


@tdsl.template(source=TEXT)
def rotate(q, k, c):
    s = q + k
    q.mul_(c)
    k.add_(c)
    return s


@tdsl.template(source=TEXT)
def add_mm(C, A, B):
    C.add_(A @ B)


@pytest.fixture(autouse=True)
def fresh(device):
    torch.manual_seed(0)
    torch._dynamo.reset()
    if device.type == "cpu":
        yield
    else:
        with device:
            yield


PROGRAMS = {}


def program(kernels, *shapes):
    """Enters a program into the table: how many kernels it is, and the sizes of its arguments."""

    def enter(function):
        PROGRAMS[function.__name__] = (function, kernels, shapes)
        return function

    return enter


# Nothing else sees the memory


@program(1, 100, 100)
def a_temporary(a, b):
    x = a * 2
    axpy(x, b, 3.0)
    return torch.relu(x) + 1


@program(1, 100, 100)
def an_argument(y, x):
    axpy(y, x, 3.0)


@program(1, 100, 100)
def an_argument_that_is_returned(y, x):
    axpy(y, x, 3.0)
    return y, y.view(10, 10), y[5:]


@program(1, 100, 100)
def what_reads_it(y, x):
    axpy(y, torch.relu(x), 2.0)
    return torch.relu(y) + 1, y * x


@program(1, 100, 100)
def zeros(a, x):
    y = torch.zeros_like(a)
    axpy(y, x, 2.0)
    return y


@program(1, 100, 100)
def clone_then_mutate(y, x):
    z = y.clone()
    axpy(z, x, 2.0)
    return z, y


@program(1, 100, 100)
def mutated_again_by_pytorch(y, x):
    axpy(y, x, 2.0)
    y[3:7] = 0.5
    return y


@program(1, (20, 33), (20, 33))
def two_arguments(a, b):
    swap(a, b)


@program(1, (20, 33), (20, 33))
def two_temporaries(a, b):
    c, d = a * 2, b + 1
    swap(c, d)
    return torch.relu(c), d - 1


@program(1, (20, 33), (20, 33), (20, 33))
def two_arguments_and_an_output(q, k, c):
    s = rotate(q, k, torch.relu(c))
    return torch.relu(s), q * 2


@program(1, (40, 50), (40, 60), (60, 50))
def a_matmul_into_a_temporary(C, A, B):
    D = C * 2
    add_mm(D, A, B)
    return torch.relu(D)


@program(1, (40, 50), (40, 60), (60, 50))
def a_matmul_into_an_argument(C, A, B):
    add_mm(C, A, torch.relu(B))
    return torch.relu(C)


# Views


@program(1, 200, 100)
def a_slice(y, x):
    axpy(y[50:150], x, 2.0)


@program(1, 200, 100)
def every_other(y, x):
    axpy(y[::2], x, 2.0)


@program(1, (10, 20), 200)
def a_flat_view(y, x):
    axpy(y.view(-1), x, 2.0)
    return y


@program(1, (10, 20), 200)
def a_flat_view_of_a_temporary(a, x):
    y = a * 3
    axpy(y.view(-1), x, 2.0)
    return y.T


@program(1, 100, 100)
def a_view_of_another_dtype_and_back(y, x):
    axpy(y.view(torch.int32).view(torch.float32), x, 2.0)
    return y


@program(1, 100, 50)
def as_strided(y, x):
    axpy(torch.as_strided(y, (50,), (2,), 1), x, 2.0)
    return y


@program(1, 100, 100)
def detached(y, x):
    axpy(y.detach(), x, 2.0)
    return y + 1


@program(1, (10, 20), 200)
def a_reshape_that_copies(y, x):
    z = y.T.reshape(-1)
    axpy(z, x, 2.0)
    return y, z


@program(2, 200, 100)
def a_slice_of_a_temporary(a, x):
    y = a * 2
    axpy(y[50:150], x, 2.0)
    return y.relu(), y[40:60]


@program(2, 200, 100)
def slices_that_overlap_one_after_the_other(y, x):
    axpy(y[:100], x, 2.0)
    axpy(y[50:150], x, 2.0)
    return y


@program(4, (4, 50), 50)
def row_by_row(y, x):
    for i in range(4):
        axpy(y[i], x, float(i))
    return y


@program(1, (4, 50), 4)
def a_column(y, x):
    axpy(y.T[1], x, 2.0)
    return y


@program(1, (6, 2, 50), (6, 3))
def a_part_behind_several_views(y, x):
    z = x * 2
    swap(y.permute(2, 0, 1)[4:7, :, 1].T, z)
    return z


@program(2, (8, 24), (16, 8, 24))
def rows_of_a_transposed_cache(n, c):
    a, b = n * 2, n * 3
    swap(a, c.transpose(0, 1)[:, 5])
    swap(b, c.transpose(0, 1)[:, 6])


@program(2, (8, 24), (16, 8, 24))
def rows_of_one_view(n, c):
    v = c.transpose(0, 1)
    add_mm(v[:, 5], n @ n.T, n)
    swap(n, v[:, 6])


@program(2, (24,), (16, 24))
def then_written_by_pytorch(n, c):
    v = c[3]
    axpy(v, n, 2.0)
    v.mul_(2)


@program(1, (40, 5), 70)
def a_part_of_a_flat_view(y, x):
    axpy(y.view(-1)[20:90], x, 2.0)
    return y


@program(1, (5, 8), 8)
def a_row_of_a_tensor_in_another_order(y, x):
    axpy(y.t()[3], x[:5], 2.0)
    return y.t()


@program(2, (4, 50), 50)
def a_row_after_the_tensor_was_read(y, x):
    old = y.sum(0)
    axpy(y.T[:, 1], x, 2.0)
    return old


@program(None, (4, 50), 50)
def a_row_and_all_that_was_there_before(y, x):
    old = y.clone()
    axpy(y.T[:, 1], x, 2.0)
    return old * y


@program(None, (4, 50), 50)
def a_row_then_all_of_it(y, x):
    axpy(y.T[:, 1], x, 2.0)
    y.mul_(2)
    axpy(y.T[:, 3], x, 1.0)
    return y


@program(2, (4, 50), 4)
def a_column_of_a_temporary(a, x):
    y = a + 1
    axpy(y[:, 3], x, 2.0)
    return y


@program(1, (20, 33), (33, 20))
def transposed(a, b):
    swap(a, b.T)


@program(1, (20, 33), (33, 20))
def transposed_temporaries(a, b):
    c, d = a * 2, (b + 1).T
    swap(c, d)
    return c, d, c + d


@program(None, (20, 66))
def halves(y):
    swap(y[:, :33], y[:, 33:])
    return y


@program(None, (20, 66))
def halves_of_a_temporary(a):
    y = a + 1
    swap(y[:, ::2], y[:, 1::2])
    return y


@program(None, (20, 99), (20, 33))
def parts_of_an_argument(qkv, c):
    s = rotate(qkv[:, :33], qkv[:, 33:66], c)
    return s, qkv[:, 66:] + 1


@program(None, (20, 99), (20, 33))
def parts_of_a_temporary(x, c):
    qkv = torch.relu(x)
    q, k, v = qkv.split(33, 1)
    s = rotate(q, k, c)
    return s * 2, q + k, v, qkv


@program(None, 100, 50)
def chunks(y, x):
    a, b = y.chunk(2)
    axpy(a, x, 2.0)
    axpy(b, a, 1.0)
    return a + b, y


# Old and new values


@program(1, 100, 100)
def a_clone_between_two_writes(y, x):
    axpy(y, x, 2.0)
    z = y.clone()
    y.add_(1)
    return z


@program(None, 100, 100)
def a_clone_between_two_calls(y, x):
    axpy(y, x, 2.0)
    z = y.clone()
    axpy(y, x, 1.0)
    return z, y


@program(None, 100, 100)
def a_clone_of_a_temporary_between_two_calls(a, x):
    y = a + 1
    axpy(y, x, 2.0)
    z = y.clone()
    axpy(y, x, 1.0)
    return z, y


@program(None, 100, 100)
def a_view_before_and_after(y, x):
    v = y[10:20]
    w = v + 1
    axpy(y, x, 2.0)
    return w, v * 2, v


@program(None, 100, 100)
def old_and_new(y, x):
    old = y.clone()
    axpy(y, x, 2.0)
    return torch.where(old > 0, old, y), y - old


@program(None, 100, 100)
def in_a_loop(y, x):
    for i in range(3):
        axpy(y, x * i, 1.0)
        x = x + y
    return x


@program(None, 100, 100)
def among_other_writes(y, x):
    y.mul_(2)
    axpy(y, x, 2.0)
    y.add_(x)
    return y.abs()


@program(None, 100, 100)
def what_was_read_is_written(y, x):
    axpy(y, x, 2.0)
    x.add_(y)
    axpy(y, x, 2.0)
    return x


@program(2, 100, 100)
def each_to_the_other(y, x):
    axpy(y, x, 2.0)
    axpy(x, y, 2.0)
    return x - y


@program(None, 100, 100)
def copied_into_what_was_read(y, x):
    axpy(y, x, 2.0)
    x.copy_(y)


@program(None, (20, 33), (20, 33))
def twice(a, b):
    swap(a, b)
    swap(a, b)
    return a - b


@program(None, (40, 40), (40, 40), (40, 40))
def written_back_transposed(C, A, B):
    add_mm(C, A, B)
    C.copy_(C.T.clone())
    return C


@program(None, 100, 100)
def written_back_reversed(y, x):
    axpy(y, x, 2.0)
    y.copy_(y.flip(0))


# What is read shares memory with what is written: its old values


@program(None, 100)
def the_same_tensor(y):
    axpy(y, y, 2.0)
    return y


@program(None, 100)
def the_same_temporary(a):
    y = a * 3
    axpy(y, y, 2.0)
    return y


@program(None, 200)
def another_part_of_it(y):
    axpy(y[:100], y[100:], 2.0)
    return y


@program(None, (40, 40), (40, 40))
def a_factor_of_its_own(C, B):
    add_mm(C, C, B)
    return C


@program(None, (40, 40), (40, 40))
def a_factor_of_its_own_transposed(c, B):
    C = c + 1
    add_mm(C, C.T, B)
    return C


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, dynamic):
    function, kernels, shapes = PROGRAMS[name]
    args = [torch.randn(shape) for shape in shapes]
    report = assert_fused(function, args, kernels=kernels, dynamic=dynamic)
    # And bit for bit what the kernels do without a compiler, with the same strides.
    eager = copy_arguments(args)
    result = function(*eager)
    compiled = copy_arguments(args)
    made = torch.compile(function, fullgraph=True, dynamic=dynamic)(*compiled)
    assert_same_bits([made, compiled], [result, eager])
    assert strides(made) == strides(result)
    assert report.kernels > 0


def strides(values):
    values = values if isinstance(values, tuple) else (values,)
    return [(value.stride(), value.storage_offset()) for value in values if isinstance(value, torch.Tensor)]


ONE_MEMORY = {
    "a complex tensor": lambda: (lambda y, x: axpy(y.real, x, 2.0), torch.randn(50, dtype=torch.complex64)),
    "doubles": lambda: (lambda y, x: axpy(y.view(torch.float32)[3:53], x, 2.0), torch.randn(50).double()),
    "complex halves": lambda: (lambda y, x: axpy(torch.view_as_complex(y).real, x, 2.0), torch.randn(50, 2)),
    "parts of it": lambda: (
        lambda y, x: axpy(torch.view_as_real(y).view(-1)[10:60], x, 2.0),
        torch.randn(50, dtype=torch.complex64),
    ),
}


@pytest.mark.filterwarnings("ignore:.*complex:UserWarning")
@pytest.mark.parametrize("case", ONE_MEMORY)
def test_views_that_inductor_has_no_code_for(case):
    function, y = ONE_MEMORY[case]()
    x, eager, compiled = torch.randn(50), y.clone(), y.clone()
    function(eager, x)
    torch.compile(function, fullgraph=True)(compiled, x)
    assert torch.equal(eager, compiled) and not torch.equal(eager, y)


def test_what_is_read_is_of_the_same_memory_as_another_dtype():
    @tdsl.template(
        source="""
template reversed(inout y: f32[N], x: f16[P]):
    for n in grid(N by 16):
        store y[n] = load y[n] + f32(load x[P - 1 - n] else 0)
"""
    )
    def reversed(y, x): ...

    def function(y):
        reversed(y, y.view(torch.float16))

    eager, compiled = torch.ones(200), torch.ones(200)
    function(eager)
    torch.compile(function, fullgraph=True)(compiled)
    assert_same_bits(eager, compiled)


def test_what_is_read_behind_is_of_the_memory_that_is_written_as_another_dtype():
    """Programs of one kernel would read what others have written. That PyTorch (2.13) has the two in a kernel of its own
    then, and is wrong, is not ours."""

    def function(y, a, b):
        halves = y.view(torch.int16).flip(0)[:, ::2].float()
        y.copy_(t.mm(a, b) + halves)

    with tdsl.refusal.watch() as refusals:
        args = torch.randn(40, 64), torch.ones(40, 9), torch.ones(9, 64)
        count_kernels(torch.compile(function, fullgraph=True), *args)
    (refusal,) = refusals
    assert "in place to a tensor that it also reads" in refusal.reason


def test_parts_that_overlap():
    """PyTorch refuses this of its own operators; here what is read are the old values."""

    def function(y):
        axpy(y[:100], y[50:150], 2.0)
        return y

    y = torch.randn(200)
    want = y.clone()
    want[:100] += 2.0 * y[50:150]
    compiled, eager = y.clone(), y.clone()
    torch.testing.assert_close(function(eager), want)
    torch.testing.assert_close(torch.compile(function, fullgraph=True)(compiled), want)


def test_arguments_that_are_views_of_one_tensor():
    base, x = torch.randn(150), torch.randn(100)
    assert_fused(lambda y, z, x: (axpy(y, x, 2.0), z * 2), (base[:100], base[50:], x), kernels=None)
    assert_fused(lambda y, z: axpy(y, z, 2.0), (base[:70], base[70:140]), kernels=None)
    rows = torch.randn(20, 66)
    assert_fused(lambda a, b: swap(a, b), (rows[:, :33], rows[:, 33:]), kernels=None)


@pytest.mark.parametrize("view", [lambda y: y, lambda y: y[1], lambda y: y.T])
def test_a_clone_of_what_was_written_is_no_part_of_it(view):
    def function(y, x):
        axpy(y.T[:, 1], x, 2.0)
        return view(y).clone()

    y, x = torch.randn(4, 50), torch.randn(50)
    clone = torch.compile(function, fullgraph=True)(y, x)
    want = view(y).clone()
    y.zero_()
    assert_same_bits(clone, want)


def test_the_copy_back_allocates_nothing():
    report = assert_fused(lambda y, x: axpy(y, x, 2.0), (torch.randn(100), torch.randn(100)))
    assert "empty_strided_" in report.code[0] and "= empty_strided_" not in report.code[0].split("Runner")[1]


REFUSED = {
    "an expanded tensor": lambda: (axpy, (torch.randn(1).expand(9), torch.randn(9), 1.0)),
    "windows": lambda: (swap, (torch.randn(20).unfold(0, 8, 2), torch.randn(7, 8))),
    "one tensor twice": lambda: (swap, (a := torch.randn(5, 6), a)),
    "parts that overlap": lambda: (swap, ((a := torch.randn(5, 9))[:, :6], a[:, 3:])),
    "a tensor and its transpose": lambda: (swap, (a := torch.randn(6, 6), a.T)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    template, args = REFUSED[case]()
    before = [arg.clone() for arg in args[:2]]
    with pytest.raises(TdslError, match=r"is written to, and .* pass a clone of it"):
        template(*args)
    for dynamic in (False, True):
        with pytest.raises(Exception, match=r"is written to, and .* pass a clone of it"):
            torch.compile(template, fullgraph=True, dynamic=dynamic)(*args)
        torch._dynamo.reset()
    assert_same_bits(list(args[:2]), before)


def test_refused_within_a_graph():
    def function(base):
        y = base * 2
        swap(y[:, :6], y[:, 3:])
        return y

    with pytest.raises(Exception, match="shares elements with 'b'"):
        torch.compile(function, fullgraph=True)(torch.randn(5, 9))
    with pytest.raises(TdslError, match="shares elements with 'b'"):
        torch.func.functionalize(function)(torch.randn(5, 9))


def test_equal_temporaries_are_two_tensors():
    def function(a):
        c, d = a * 2, a * 2  # one node, once the graph is simplified
        swap(c, d)
        return c, d

    assert_fused(function, (torch.randn(20, 33),), kernels=1)


def test_a_negated_view():
    z = torch.randn(9, dtype=torch.complex64).conj()
    assert z.imag.is_neg()
    torch.testing.assert_close(t.mm(z.imag[None], torch.ones(9, 1)), z.imag.sum().reshape(1, 1))
    with pytest.raises(TdslError, match="it is the negative of what its memory holds"):
        axpy(z.imag, torch.ones(9), 1.0)


def test_empty():
    assert_fused(lambda y, x: axpy(y, x, 2.0), (torch.randn(0), torch.randn(0)), kernels=None)


# Around it


def test_version_counters():
    y, x = torch.randn(10), torch.randn(10)
    axpy(y, x, 1.0)
    assert (y._version, x._version) == (1, 0)
    w = torch.randn(10, requires_grad=True)
    z = w * y
    axpy(y, x, 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes(mode):
    def function(y, x):
        axpy(y, x, 2.0)
        z = y.clone()
        axpy(y, x, 1.0)
        return z, y + 1

    with mode():
        y, x = torch.randn(50), torch.randn(50)
        eager, compiled = y.clone(), y.clone()
        result = function(eager, x)
        assert_same_bits(torch.compile(function, fullgraph=True)(compiled, x), result)
        assert_same_bits(eager, compiled)


def test_a_parameter_is_updated_without_gradients():
    weight, x = torch.nn.Parameter(torch.randn(50)), torch.randn(50)
    before = weight.detach().clone()
    with pytest.raises(TdslError, match="'axpy' cannot be differentiated"):
        axpy(weight, x, 1.0)
    with torch.no_grad():
        torch.compile(lambda y, x: axpy(y, x, 2.0), fullgraph=True)(weight, x)
    torch.testing.assert_close(weight.detach(), before + 2 * x)


def test_a_graph_whose_other_part_has_a_gradient():
    def function(y, x, w):
        with torch.no_grad():
            axpy(y, x, 2.0)
        return (y * w).sum()

    y, x, w = torch.randn(50), torch.randn(50), torch.randn(50, requires_grad=True)
    want = y + 2 * x
    (found,) = torch.autograd.grad(torch.compile(function, fullgraph=True)(y, x, w), w)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(y, want)


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(20, 33))

    def forward(self, x):
        y = x * 2
        axpy(y[3], x[4], 2.0)
        swap(self.state, y)
        return y + self.state


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of PyTorch's own code
def test_export():
    x = torch.randn(20, 33)
    exported = torch.export.export(Counter(), (x,))
    want = Counter()(x)
    torch.testing.assert_close(exported.module()(x), want)
    lowered = torch.export.export(Counter(), (x,)).run_decompositions()
    names = [str(node.target) for node in lowered.graph.nodes if "tdsl" in str(node.target)]
    assert len(names) == 2 and all(name.endswith("_functional") for name in names)
    module = lowered.module()
    torch.testing.assert_close(module(x), want)
    torch.testing.assert_close(dict(module.named_buffers())["state"], want)


def test_torch_func_functionalize():
    def function(y, x):
        axpy(y[1:3], x[:2], 1.0)
        return y * 2

    y, x = torch.ones(4), torch.ones(4)
    result = torch.func.functionalize(function)(y, x)
    torch.testing.assert_close(result, torch.tensor([2.0, 4.0, 4.0, 2.0]))
    torch.testing.assert_close(y, torch.tensor([1.0, 2.0, 2.0, 1.0]))


TEXT_SET = """
template set_to(inout y: f32[N], x: f32[N]):
    config BLOCK=16
    for n in grid(N by BLOCK):
        store y[n] = load x[n] * 2
"""


@tdsl.template(source=TEXT_SET)
def set_to(y, x):
    y.copy_(x * 2)


def set_a_temporary(y, x):
    z = y.sin()
    set_to(z, x.exp())
    return z + 1


def set_what_was_changed(y, x):
    y.mul_(2)
    set_to(y, x.exp())


def copied_in(y, x):
    z = x.clone()
    set_to(z, x.exp())
    y.copy_(z.relu())
    return y + 1


def read_from_itself(y, x):
    set_to(y, y.exp())
    return y + x


def shifted(y, x):
    z = x.clone()
    set_to(z, y[:-1])
    y[1:].copy_(z)
    return y * 2


@pytest.mark.parametrize("dynamic", [False, True])
def test_what_is_stored_and_never_loaded(dynamic, device):
    y, x = torch.randn(37), torch.randn(37)
    for program, kernels in (
        (set_a_temporary, 1),
        (set_what_was_changed, 1),
        (copied_in, 1),
        (read_from_itself, 2),
    ):
        torch._dynamo.reset()
        assert_fused(program, (y, x), kernels=kernels, dynamic=dynamic)
    # C++ copies 37 numbers and doubles 38 in one kernel, Triton in two.
    kernels = 2 if device.type == "cpu" else 3
    assert_fused(shifted, (torch.randn(38), x), kernels=kernels, dynamic=dynamic)
