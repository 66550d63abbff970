"""Templates of tensors that are spread over processes: cut where the kernel allows it, whole elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = """
import sys
import torch, torch.distributed as dist
from pathlib import Path
from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor, init_device_mesh
from tdsl.testing import load_module

rank, folder = int(sys.argv[1]), sys.argv[2]
t = load_module(Path(sys.argv[3]))
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
torch.manual_seed(0)
R, S = Replicate(), Shard

def spread(value, placement):
    return distribute_tensor(value, mesh, [placement]) if isinstance(value, torch.Tensor) else value

def check(template, args, placements, outputs, compiled):
    call = torch.compile(lambda *args: template(*args)) if compiled else template
    got = call(*[spread(value, place) for value, place in zip(args, placements, strict=True)])
    want = template.reference(*args)
    got, want = [made if isinstance(made, tuple) else (made,) for made in (got, want)]
    for mine, its, where in zip(got, want, outputs, strict=True):
        assert mine.placements == (where,), (template, placements, mine.placements)
        torch.testing.assert_close(mine.full_tensor(), its, rtol=1e-4, atol=1e-4)

a, b, x, w = torch.randn(9, 6), torch.randn(6, 7), torch.randn(3, 5, 8), torch.randn(8)
ids, table = torch.randint(0, 4, (7,)), torch.randn(4, 6)
for compiled in (False, True):
    check(t.mm, (a, b), (R, R), [R], compiled)
    check(t.mm, (a, b), (S(0), R), [S(0)], compiled)
    check(t.mm, (a, b), (R, S(1)), [S(1)], compiled)
    check(t.rn, (x, w, 1e-5), (S(0), R, None), [S(0)], compiled)
    if not compiled:  # every way of being cut is the same to a compiler
        check(t.mm, (a[:1], b), (S(0), R), [R], compiled)  # too few rows to cut
        check(t.rn, (x, w, 1e-5), (S(1), R, None), [S(1)], compiled)
        check(t.ln, (x, w, None, 1e-5), (S(1), R, None, None), [S(1)] * 3, compiled)
        check(t.embed, (ids, table), (S(0), R), [S(0)], compiled)
        check(t.embed, (ids, table), (R, S(1)), [S(1)], compiled)
        check(t.column_sums, (a,), (S(1),), [S(0)], compiled)

# What is summed over cannot be cut, and what waits to be added up is added up before.
def values(made, want):
    torch.testing.assert_close(made.full_tensor(), want, rtol=1e-4, atol=1e-4)

values(t.mm(spread(a, S(1)), spread(b, S(0))), a @ b)
values(t.rn(spread(x, S(2)), spread(w, S(0)), 1e-5), t.rn.reference(x, w, 1e-5))
values(t.column_sums(spread(a, S(0))), a.sum(0))
values(t.both(spread(x, S(0)))[1], (x * 2).flatten())
partial = spread(a, S(1)) @ spread(b, S(0))
assert isinstance(partial.placements[0], Partial)
values(t.ew(partial, partial), t.ew.reference(a @ b, a @ b))

# Gradients
for compiled in (False, True):
    mine = [spread(a, S(0)).requires_grad_(), spread(b, R).requires_grad_()]
    its = [a.clone().requires_grad_(), b.clone().requires_grad_()]
    call = torch.compile(lambda a, b: t.mm(a, b).sin().sum()) if compiled else lambda a, b: t.mm(a, b).sin().sum()
    call(*mine).backward()
    (its[0] @ its[1]).sin().sum().backward()
    for one, other in zip(mine, its, strict=True):
        values(one.grad, other.grad)

# In place: what is written stays where it is.
for compiled in (False, True):
    for place in (S(0), R):
        y, z = torch.randn(11), torch.randn(11)
        mine = spread(y.clone(), place)
        axpy = torch.compile(lambda y, z: t.axpy(y, z, 2.0)) if compiled else lambda y, z: t.axpy(y, z, 2.0)
        axpy(mine, spread(z, R))
        assert mine.placements == (place,)
        values(mine, y + 2 * z)
try:
    t.swap(spread(a, S(0)), spread(a, R))
    raise AssertionError("its arguments are cut in different ways")
except RuntimeError as error:
    assert "cannot be split among processes as they are" in str(error), error
with torch.inference_mode():
    check(t.mm, (a, b), (S(0), R), [S(0)], False)
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize("interpret", ["0", "1"])
def test_two_processes(tmp_path, interpret):
    templates = str(Path(__file__).with_name("templates.py"))
    logs = [tmp_path / f"log{rank}" for rank in range(2)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as file:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, str(rank), str(tmp_path), templates],
                    env={
                        **os.environ,
                        "TRITON_INTERPRET": interpret,
                        "CUDA_VISIBLE_DEVICES": "",
                        # PyTorch's cache would give one process the graph of the other's number of rows.
                        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / f"cache{rank}"),
                    },
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        for process, log in zip(processes, logs, strict=True):
            assert process.wait(timeout=300) == 0, log.read_text()[-4000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()
