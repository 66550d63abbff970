"""Operators that the author has named: a saved program finds them, and no cache hands out what they were before."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest
import torch

import tdsl
from tdsl import TdslError

TEMPLATES = '''
import torch, tdsl
SOURCE = """
template rms(x: T[M, N], w: T[N], eps: float) -> y: T[M, N]
where T in (bf16, f32):
    config BLOCK=4
    for m in grid(M by BLOCK):
        n = whole(N)
        r = load x[m, n]
        store y[m, n] = r * rsqrt(sum(r * r, n) / N + eps) * load w[n] * 1

template axpy(inout y: f32[N], x: f32[N]):
    config BLOCK=64
    for n in grid(N by BLOCK):
        store y[n] = load y[n] + load x[n]
"""

@tdsl.template(source=SOURCE, op="mylib::rms", version=1)
def rms(x, w, eps=1e-6):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w * 1

@tdsl.template(source=SOURCE, op="mylib::axpy")
def axpy(y, x):
    y.add_(x)

torch.manual_seed(0)
x, w = torch.randn(5, 40), torch.randn(40)

class Model(torch.nn.Module):
    def forward(self, x, w):
        y = rms(torch.relu(x), w)
        axpy(y.view(-1), x.reshape(-1))
        return torch.relu(y)

def wanted(x, w, eps=1e-6, factor=1):
    r = torch.relu(x)
    return torch.relu(r * torch.rsqrt((r * r).mean(-1, keepdim=True) + eps) * w * factor + x)
'''


def run(program: str, folder: object, **environment: str) -> str:
    done = start(program, folder, **environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def start(program: str, folder: object, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {
        key: value for key, value in os.environ.items() if key not in ("TRITON_INTERPRET", "TRITON_CACHE_DIR")
    }
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**settings, "TRITON_INTERPRET": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


# Saved programs

SAVE = """
program = torch.export.export(Model(), (x, w), dynamic_shapes=({0: torch.export.Dim("m", min=2)}, None))
torch.export.save(program, FOLDER + "/as_called.pt2")
torch.export.save(program.run_decompositions(), FOLDER + "/functional.pt2")
print(*sorted({str(node.target) for node in program.run_decompositions().graph.nodes if "mylib" in str(node.target)}))
"""
LOAD = """
x = torch.randn(7, 40)
for name in ("/as_called.pt2", "/functional.pt2"):
    loaded = torch.export.load(FOLDER + name).module()
    torch.testing.assert_close(loaded(x, w), wanted(x, w))
    torch.testing.assert_close(torch.compile(loaded, fullgraph=True)(x, w), wanted(x, w))
print("loaded")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    out = run(TEMPLATES + f"FOLDER = {str(folder)!r}" + SAVE, folder / "cache")
    assert out == "mylib.axpy.v1_functional mylib.rms.v1\n"
    return folder


def edited(*edits: tuple[str, str]) -> str:
    text = TEMPLATES
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


UPGRADED = (
    "import torch, tdsl",
    "import torch, tdsl, tdsl.identity\ntdsl.identity.own_digest = lambda: 'another'",
)
COMMENT = ("template rms(", "# what it is\ntemplate rms(")


@pytest.mark.parametrize(
    "edits, interpret",
    [
        ([COMMENT, UPGRADED], "0"),
        pytest.param([], "1", marks=pytest.mark.full),
        pytest.param([("eps=1e-6)", "eps=1e-2)")], "1", marks=pytest.mark.full),
    ],
    ids=["a comment, another tdsl, no interpreter", "as it was", "another default"],
)
def test_a_saved_program_loads(saved, edits, interpret):
    program = edited(*edits).replace("eps=1e-2, factor", "eps=1e-6, factor")
    out = run(program + f"FOLDER = {str(saved)!r}" + LOAD, saved / "cache", TRITON_INTERPRET=interpret)
    assert out == "loaded\n"


def test_a_saved_program_does_what_the_template_does_now(saved):
    program = edited(("load w[n] * 1", "load w[n] * 3"), ("* w * 1", "* w * 3"), ("factor=1", "factor=3"))
    assert run(program + f"FOLDER = {str(saved)!r}" + LOAD, saved / "cache") == "loaded\n"


WRONG = {
    "a parameter more": (
        [
            ("eps: float)", "eps: float, bias: float)"),
            ("eps=1e-6)", "eps=1e-6, bias=0.0)"),
            ("load w[n] * 1", "load w[n] + bias"),
        ],
        [
            "the program was saved when 'mylib::rms' of v1 was called as (Tensor x, Tensor w, float eps) -> Tensor; "
            "it is (Tensor x, Tensor w, float eps, float bias) -> Tensor",
            "give the changed template version=2 and keep one of the old signature as version=1",
        ],
    ),
    "a parameter less": (
        [(", eps: float)", ")"), (", eps=1e-6)", ", eps=1e-6, **_)"), ("+ eps) * load", "+ 1e-6) * load")],
        ["(Tensor x, Tensor w, float eps) -> Tensor; it is (Tensor x, Tensor w) -> Tensor"],
    ),
    "another kind": (
        [("eps: float", "eps: int")],
        [
            "called as (Tensor x, Tensor w, float eps) -> Tensor; it is (Tensor x, Tensor w, SymInt eps) -> Tensor"
        ],
    ),
    "another name": (
        [
            ("w: T[N]", "weight: T[N]"),
            ("load w[", "load weight["),
            ("def rms(x, w,", "def rms(x, weight,"),
            ("eps) * w * 1", "eps) * weight * 1"),
        ],
        ["it is (Tensor x, Tensor weight, float eps) -> Tensor"],
    ),
    "an output more": (
        [
            ("-> y: T[M, N]", "-> (y: T[M, N], z: T[M, N])"),
            ("* load w[n] * 1", "* load w[n] * 1\n        store z[m, n] = r"),
        ],
        [
            "(Tensor x, Tensor w, float eps) -> Tensor; it is (Tensor x, Tensor w, float eps) -> (Tensor, Tensor)"
        ],
    ),
    "another version": (
        [("version=1", "version=2")],
        [
            "the program was saved with v1 of 'mylib::rms', and there is v2",
            "keep a template of version=1 beside it, or export the program again",
        ],
    ),
}


# Each is a process; the rest says the same of other signatures.
FIRST_WRONG = ("a parameter more", "another version")


@pytest.mark.parametrize(
    "change",
    [pytest.param(name, marks=[] if name in FIRST_WRONG else pytest.mark.full) for name in WRONG],
)
def test_what_truly_changed_is_said(saved, change):
    edits, said = WRONG[change]
    program = edited(*edits)
    if change == "a parameter less":
        program = program.replace(", eps=1e-6, **_)", ")").replace(
            "keepdim=True) + eps) * w * 1", "keepdim=True) + 1e-6) * w * 1"
        )
    load = """
for name in ("as_called", "functional"):
    try:
        torch.export.load(f"{FOLDER}/{name}.pt2")
    except tdsl.TdslError as error:
        print(error)
"""
    out = run(program + f"FOLDER = {str(saved)!r}" + load, saved / "cache")
    for line in said:
        assert out.count(line) == 2, out


def test_two_versions_side_by_side(saved):
    both = (
        TEMPLATES
        + """
@tdsl.template(source=SOURCE.replace("load w[n] * 1", "load w[n] * 2"), op="mylib::rms", version=2, name="rms")
def rms_2(x, w, eps=1e-6):
    return 2 * rms.reference(x, w, eps)

print(rms.op, rms_2.op)
torch.testing.assert_close(rms_2(x, w), 2 * rms(x, w))
torch.testing.assert_close(torch.ops.mylib.rms.v2(x, w, 1e-6), 2 * torch.ops.mylib.rms.v1(x, w, 1e-6))
"""
    )
    out = run(both + f"FOLDER = {str(saved)!r}" + LOAD, saved / "cache")
    assert out == "mylib.rms.v1 mylib.rms.v2\nloaded\n"


# What PyTorch keeps on disk: each edit is another process with the same caches

EDITED = """
import torch, tdsl
SOURCE = '''
template scaled(x: f32[N]) -> y: f32[N]:
    config BLOCK=16
    for n in grid(N by BLOCK):
        store y[n] = load x[n] * FACTOR
'''
@tdsl.template(source=SOURCE, op="mylib::scaled", version=1)
def scaled(x):
    return x * FACTOR

OUTER = '''
template outer(x: f32[N]) -> y: f32[N]:
    config BLOCK=16
    for n in grid(N by BLOCK):
        store y[n] = load x[n] * 1
'''
x = torch.ones(40, requires_grad=True)

def gradient(f):
    y = torch.compile(f)(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    return grad[0].item()

def value(f):
    return torch.compile(f)(x.detach())[0].item() - 1
"""
PROGRAMS = {
    "the template": "print(value(lambda x: scaled(x) + 1))",
    "its operator": "print(value(lambda x: torch.ops.mylib.scaled.v1(x) + 1))",
    "its operator without the version": "print(value(lambda x: torch.ops.mylib.scaled(x) + 1))",
    "its gradient": "print(gradient(lambda x: scaled(x) + 1))",
    "within a checkpoint": """
from torch.utils.checkpoint import checkpoint
print(value(lambda x: checkpoint(scaled, x, use_reentrant=False) + 1))
""",
    "a branch": """
def program(x):
    return torch.cond(x.sum() > 0, lambda x: scaled(x), lambda x: x + 5, (x,)) + 1
print(value(program))
""",
    "in the reference of another": """
@tdsl.template(source=OUTER)
def outer(x):
    return scaled(x) * 1
print(gradient(lambda x: outer(x) + 1))
""",
    "by its name in the reference of another": """
@tdsl.template(source=OUTER, op="mylib::outer")
def outer(x):
    return torch.ops.mylib.scaled.v1(x) * 1
print(gradient(lambda x: outer(x) + 1))
""",
    "a saved program": """
import os
import re
path = os.environ["TORCHINDUCTOR_CACHE_DIR"] + "/scaled.pt2"
class Model(torch.nn.Module):
    def forward(self, x):
        return scaled(x) + 1
if not os.path.exists(path):
    torch.export.save(torch.export.export(Model(), (x.detach(),)), path)
print(value(torch.export.load(path).module()))
""",
}
HITS = """
from torch._dynamo.utils import counters
print(counters["aot_autograd"]["autograd_cache_hit"])
"""


@pytest.mark.parametrize(
    "interpret, edits", [("1", 2), *(pytest.param(each, 5, marks=pytest.mark.full) for each in "01")]
)
def test_what_was_compiled_before_an_edit_is_never_served(tmp_path, interpret, edits):
    programs = "".join(f"torch.compiler.reset()\n{program}\n" for program in PROGRAMS.values())
    for factor in range(1, edits + 1):
        text = (EDITED + programs).replace("FACTOR", str(factor)) + HITS
        out = run(text, tmp_path, TRITON_INTERPRET=interpret).split()
        got = dict(zip(PROGRAMS, map(float, out), strict=False))
        assert got == dict.fromkeys(PROGRAMS, float(factor))
    # What is as it was is found.
    again = run(text, tmp_path, TRITON_INTERPRET=interpret).split()
    assert again[:-1] == out[:-1] and int(again[-1]) >= len(PROGRAMS) - 1 > int(out[-1])


# One process


def define(factor, text=None, *, op="mylib::again", version=1, parameters="x", module=None):
    """As a notebook does when its cell runs again."""
    source = (
        text
        or f"""
template again(x: T[N]) -> y: T[N]
where T in (bf16, f32):
    config BLOCK=16
    for n in grid(N by BLOCK):
        store y[n] = load x[n] * {factor}
"""
    )
    cell = {"__name__": module or __name__}
    exec(f"def again({parameters}): return x * {factor}", cell)
    return tdsl.template(source=source, op=op, version=version)(cell["again"])


def test_the_latest_definition_wins_everywhere():
    x = torch.ones(40, requires_grad=True)
    first = define(2)
    programs = {
        "through the first": lambda x: first(x) + 1,
        "by its name": lambda x: torch.ops.mylib.again.v1(x) + 1,
        "through the newest": lambda x: newest(x) + 1,
    }
    newest = first
    compiled = {name: torch.compile(program, fullgraph=True) for name, program in programs.items()}
    exported = torch.export.export(Called(), (x,)).module()
    compiled["exported"] = torch.compile(exported)
    for factor in (2, 3, 5):
        newest = define(factor)
        assert newest.op is first.op
        for program in (*programs.values(), exported, *compiled.values()):
            y = program(x)
            assert y.tolist() == [factor + 1] * 40
            assert torch.autograd.grad(y.sum(), x)[0].tolist() == [factor] * 40


class Called(torch.nn.Module):
    def forward(self, x):
        return torch.ops.mylib.again.v1(x) + 1


def test_the_same_definition_compiles_nothing_anew():
    again = define(2)
    counter = torch._dynamo.testing.CompileCounterWithBackend("inductor")
    program = torch.compile(lambda x: again(x) + 1, backend=counter)
    for _ in range(2):
        assert program(torch.ones(9)).tolist() == [3] * 9
        define(2)
    assert counter.frame_count == 1


def test_the_latest_definition_makes_other_outputs():
    define(2, op="mylib::widened")
    wider = define(
        2,
        """
template again(x: f32[N]) -> y: f64[N, 2]:
    config BLOCK=16
    for n, two in grid(N by BLOCK, 2 by 2):
        store y[n, two] = load x[n]
""",
        op="mylib::widened",
    )
    y = torch.compile(lambda x: wider(x) + 1)(torch.ones(9))
    assert (y.dtype, y.shape) == (torch.float64, (9, 2))


def test_another_schema_in_one_process_is_refused():
    define(2, op="mylib::grown")
    text = """
template again(x: f32[N], k: float) -> y: f32[N]:
    for n in grid(N by 16):
        store y[n] = load x[n] * k
"""
    with pytest.raises(TdslError) as refused:
        define(2, text, op="mylib::grown", parameters="x, k")
    for said in (
        "version 1 of 'mylib::grown' was (Tensor x) -> Tensor in this process, and is (Tensor x, float k) -> Tensor",
        "give it version=2, or start the process again",
    ):
        assert said in str(refused.value)
    assert (
        define(2, text, op="mylib::grown", parameters="x, k", version=2)(torch.ones(9), 3.0).tolist()
        == [3] * 9
    )


def test_names_that_are_taken():
    define(2, op="mylib::taken")
    with pytest.raises(
        TdslError, match=r"'mylib::taken' of version 1 is the operator of .*test_names\.again already"
    ):
        define(2, op="mylib::taken", module="another")
    torch.library.custom_op("mylib::foreign", lambda x: x * 1, mutates_args=(), schema="(Tensor x) -> Tensor")
    with pytest.raises(
        TdslError, match="there is an operator 'mylib::foreign' already, which is no template's"
    ):
        define(2, op="mylib::foreign")
    assert torch.ops.mylib.foreign(torch.ones(2)).tolist() == [1, 1]


@pytest.mark.parametrize(
    "op, version, said",
    [
        ("rms", None, "op= is a name in a namespace of yours, such as 'mylib::name'; got 'rms'"),
        ("my.lib::rms", None, "op= is a name"),
        ("mylib::rms.v1", None, "op= is a name"),
        ("aten::add", None, "op= is a name in a namespace of yours"),
        ("tdsl::rms", None, "op= is a name in a namespace of yours"),
        ("mylib::rms", 0, "version= is an integer from 1; got 0"),
        ("mylib::rms", True, "version= is an integer from 1; got True"),
        ("mylib::rms", "2", "version= is an integer from 1; got '2'"),
        (None, 2, "version= is a named operator's"),
    ],
)
def test_names_that_are_none(op, version, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        tdsl.template(source="", op=op, version=version)


def test_what_a_named_operator_says():
    again = define(2, op="mylib::said")
    assert repr(again) == "<template again: mylib.said.v1>"
    with pytest.raises(TdslError, match=r"'x' must be a tensor, .*; got 3"):
        again(3)
    with pytest.raises(Exception, match=r"'x' must be a tensor, .*; got an int"):
        torch.compile(again)(3)
    torch.library.opcheck(again.op, (torch.randn(40, requires_grad=True),))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_a_package_has_what_the_template_was(tmp_path):
    path = str(tmp_path / "again.pt2")
    for factor in (2, 3):
        define(factor, op="mylib::packed")

        class Model(torch.nn.Module):
            def forward(self, x):
                return torch.ops.mylib.packed.v1(x) + 1

        exported = torch.export.export(Model(), (torch.ones(40),))
        loaded = torch._inductor.aoti_load_package(
            torch._inductor.aoti_compile_and_package(exported, package_path=path)
        )
        assert loaded(torch.ones(40)).tolist() == [factor + 1] * 40
