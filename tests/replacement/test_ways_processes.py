"""Models spread over processes, whose templates take the place of what they do: numbers are those of one process."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch

import tdsl
from tests.replacement.llama import TEMPLATES, Llama, batch, expected_counts

PRELUDE = """
import sys, warnings
import torch, torch.distributed as dist
import tdsl
from tests.replacement.llama import *

warnings.filterwarnings("ignore", message=".*takes the place of nothing")
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
mesh = dist.init_device_mesh("cpu", (2,))
torch.manual_seed(0)
model, other = Llama(layers=1), Llama(layers=1)
other.load_state_dict(model.state_dict())
ids, target = batch(rows=4)
mine = ids[2 * rank : 2 * rank + 2], target[2 * rank : 2 * rank + 2]
expected = step(other, other, ids, target)  # each rank has as many tokens as the other: the mean of the means is the mean
found = tdsl.replacing(*TEMPLATES, at_least=expected_counts(1))
whole = lambda tensor: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor

def same(got):
    for one, its in zip(got[1:], expected[1:], strict=True):
        torch.testing.assert_close(whole(one), its, rtol=1e-4, atol=1e-5)
"""

WAYS = {
    "DDP": """
from torch.nn.parallel import DistributedDataParallel
spread = DistributedDataParallel(model)
same(step(torch.compile(spread, options=found), model, *mine))
found.check()
""",
    "FSDP2": """
from torch.distributed.fsdp import fully_shard
for block in model.blocks:
    fully_shard(block, mesh=mesh)
fully_shard(model, mesh=mesh)
same(step(torch.compile(model, options=found), model, *mine))
assert found.counts[swiglu] >= 1 and found.counts[rms_norm] >= 2, found.counts
""",
    "tensor parallel": """
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
mlp, its = model.blocks[0].mlp, other.blocks[0].mlp
parallelize_module(mlp, mesh, {"gate": ColwiseParallel(), "up": ColwiseParallel(), "down": RowwiseParallel()})
x = torch.randn(3, 32)
want = its(x).detach()
# What each process calculates of its part of the weights is a gated unit; what they add up is the whole.
found = tdsl.replacing(swiglu, at_least={swiglu: 1})
part = {name: p.detach().to_local() for name, p in mlp.named_parameters()}
local = torch.compile(lambda part, x: torch.func.functional_call(its, part, (x,)), fullgraph=True, options=found)
y = local(part, x)
dist.all_reduce(y)
torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-5)
found.check()
# Around the conversions between whole and cut tensors nothing is replaced, and the numbers stay.
with torch.no_grad():
    torch.testing.assert_close(torch.compile(mlp, options=tdsl.replacing(swiglu))(x), want, rtol=1e-4, atol=1e-5)
# The operator itself, of cut weights: its signature says that columns may be cut.
from torch.distributed.tensor import Shard, distribute_tensor
gate, up = (distribute_tensor(w.detach().T.contiguous(), mesh, [Shard(1)]) for w in (its.gate.weight, its.up.weight))
y = swiglu(distribute_tensor(x, mesh), gate, up)
assert y.placements == (Shard(1),)
torch.testing.assert_close(y.full_tensor(), swiglu.reference(x, its.gate.weight.T, its.up.weight.T).detach(), rtol=1e-4, atol=1e-5)
""",
}


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
def test_two_processes(tmp_path, way):
    logs = [tmp_path / f"log{rank}" for rank in range(2)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as file:
            processes.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-c",
                        f"{PRELUDE}{WAYS[way]}\ndist.destroy_process_group()",
                        str(rank),
                        str(tmp_path),
                    ],
                    env={
                        **os.environ,
                        "CUDA_VISIBLE_DEVICES": "",
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


def _run(model, args, found):
    with torch.no_grad():
        got = torch.compile(model, fullgraph=True, options=found)(*args)
    found.check()
    return got


def test_a_spawned_process():
    torch.manual_seed(0)
    model, args = Llama(layers=1), batch()
    found = tdsl.replacing(*TEMPLATES, at_least=expected_counts(layers=1))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        got = pool.apply(_run, (model, args, found))
    torch.testing.assert_close(got, model(*args).detach(), rtol=1e-4, atol=1e-5)
