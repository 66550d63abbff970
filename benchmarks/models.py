"""Runs whole models as they are, with templates put in by `tdsl.replacing`, beside eager and plain torch.compile.

python -m benchmarks models                          three models, each in all that it is asked for
python -m benchmarks models --only llama --tiny      without a GPU, in Triton's interpreter

'llama' and 'vit' are those of transformers, with random weights; 'moe' is one block of experts, each of which gets as many
tokens as the router sends. 'forward' compares what comes out with float64; 'generate' decodes greedily with a static cache,
with CUDA graphs on a GPU; 'train' takes AdamW steps and compares the losses with eager's. 'liger' is torch.compile of a
model with Liger's patches, where `liger_kernel` is installed. DIR/models.json has every loss.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.metadata
import importlib.util
import re
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import nn

import tdsl
from benchmarks import processes
from benchmarks.arguments import UsageError, add_out, add_tiny, count, some_of
from benchmarks.measuring import spread, table, write_json
from benchmarks.rows import EXAMPLES
from tdsl import testing

CONTENDERS = {
    "eager": "eager",
    "compile": "torch.compile",
    "tdsl": "torch.compile with tdsl.replacing",
    "liger": "torch.compile with Liger's patches",
}
TASKS = ("forward", "generate", "train")
# A line of compiled code that launches a kernel or calls a library's; a kernel may be launched several times.
_LAUNCH = re.compile(
    r"^ +(?:\w+ = )?(?:\w+\.run|cpp_\w+|extern_kernels\.\w+|torch\.ops\.\w+\.[\w.]+)\(", re.MULTILINE
)
HEADER = ("model", "task", "who", "kernels", "launches", "replaced", "ms", "peak MB", "against eager")
LEARNING_RATE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is run: `make` gives the module, `batch(seed)` what it is called with, `loss` what its result comes to."""

    make: Callable[[], Any]
    batch: Callable[[int], Mapping[str, Any]]
    loss: Callable[[Any], torch.Tensor]
    result: Callable[[Any], torch.Tensor]
    templates: tuple[str, ...]
    tasks: tuple[str, ...]
    needs: str = ""  # a package
    new_tokens: int = 0
    unbacked: bool = False
    patch: Callable[[Any], None] | None = None  # Liger's


# The models


def models(*, tiny: bool) -> dict[str, Model]:
    """None is made yet, and nothing is imported for it."""
    device = torch.device("cpu" if tiny and not torch.cuda.is_available() else "cuda")
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    return {
        "llama": _llama(device, dtype, tiny),
        "vit": _vit(device, dtype, tiny),
        "moe": _moe(device, dtype, tiny),
    }


def _llama(device: torch.device, dtype: torch.dtype, tiny: bool) -> Model:
    sizes: dict[str, Any] = {
        "hidden_size": 32 if tiny else 2048,
        "intermediate_size": 48 if tiny else 8192,
        "num_hidden_layers": 1 if tiny else 16,
        "num_attention_heads": 2 if tiny else 32,
        "num_key_value_heads": 1 if tiny else 8,
        "vocab_size": 80 if tiny else 128256,
        "max_position_embeddings": 64 if tiny else 4096,
    }
    rows, tokens = (2, 9) if tiny else (4, 2048)

    def make() -> Any:
        import transformers

        library: Any = transformers  # whose annotations are not those of what it takes
        config = library.LlamaConfig(**sizes, attn_implementation="sdpa")
        return library.LlamaForCausalLM(config).to(device, dtype)

    def batch(seed: int) -> dict[str, Any]:
        ids = torch.randint(
            sizes["vocab_size"], (rows, tokens), generator=torch.Generator().manual_seed(seed)
        )
        return {"input_ids": ids.to(device), "labels": ids.to(device), "use_cache": False}

    def patch(model: Any) -> None:
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        apply_liger_kernel_to_llama(model=model)

    return Model(
        make=make,
        batch=batch,
        loss=lambda found: found.loss,
        result=lambda found: found.logits,
        templates=("rms_norm", "rope", "swiglu", "cross_entropy"),
        tasks=TASKS,
        needs="transformers",
        new_tokens=4 if tiny else 128,
        patch=patch,
    )


def _vit(device: torch.device, dtype: torch.dtype, tiny: bool) -> Model:
    sizes: dict[str, Any] = {
        "hidden_size": 32 if tiny else 1024,
        "intermediate_size": 48 if tiny else 4096,
        "num_hidden_layers": 1 if tiny else 24,
        "num_attention_heads": 2 if tiny else 16,
        "image_size": 12 if tiny else 224,
        "patch_size": 4 if tiny else 16,
        "num_labels": 10 if tiny else 1000,
    }
    rows = 2 if tiny else 64

    def make() -> Any:
        import transformers

        library: Any = transformers
        return library.ViTForImageClassification(library.ViTConfig(**sizes)).to(device, dtype)

    def batch(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        size = sizes["image_size"]
        pixels = torch.randn(rows, 3, size, size, generator=generator)
        labels = torch.randint(sizes["num_labels"], (rows,), generator=generator)
        return {"pixel_values": pixels.to(device, dtype), "labels": labels.to(device)}

    return Model(
        make=make,
        batch=batch,
        loss=lambda found: found.loss,
        result=lambda found: found.logits,
        templates=("layer_norm", "cross_entropy"),
        tasks=("forward", "train"),
        needs="transformers",
    )


class Experts(nn.Module):
    """A block of a mixture of experts: which of them a token goes to is known only when it runs."""

    def __init__(self, width: int, inner: int, experts: int, each: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.router = nn.Linear(width, experts, bias=False)
        self.each = each
        shapes = {"gate": (width, inner), "up": (width, inner), "down": (inner, width)}
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(experts, *shape) / shape[0] ** 0.5))

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v = self.norm(x)
        weights, chosen = self.router(v).softmax(-1, dtype=torch.float32).topk(self.each)
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
        y = x
        for index in range(self.router.out_features):
            rows, places = (chosen == index).nonzero(as_tuple=True)
            tokens = v[rows]
            made = F.silu(tokens @ self.gate[index]) * (tokens @ self.up[index])  # type: ignore[index]
            y = y.index_add(0, rows, made @ self.down[index] * weights[rows, places, None])  # type: ignore[index]
        return F.mse_loss(y.float(), target.float()), y


def _moe(device: torch.device, dtype: torch.dtype, tiny: bool) -> Model:
    width, inner, experts, each, tokens = (32, 48, 3, 2, 20) if tiny else (2048, 1024, 16, 2, 8192)

    def batch(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(tokens, width, generator=generator)
        return {"x": x.to(device, dtype), "target": x.roll(1, 0).to(device, dtype)}

    return Model(
        make=lambda: Experts(width, inner, experts, each).to(device, dtype),
        batch=batch,
        loss=lambda found: found[0],
        result=lambda found: found[1],
        templates=("rms_norm", "swiglu"),
        tasks=("forward", "train"),
        unbacked=True,
    )


# The command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = ("llama", "vit", "moe")
    flags: tuple[tuple[str, Sequence[str], str], ...] = (
        ("--only", names, "models"),
        ("--tasks", TASKS, "tasks"),
        ("--contenders", [*CONTENDERS], "who runs them, beside eager"),
    )
    for flag, known, what in flags:
        parser.add_argument(
            flag,
            type=some_of(known),
            default=[*known],
            metavar="NAMES",
            help=f"{what}: some of {','.join(known)}; all unless given",
        )
    parser.add_argument("--steps", type=count, help="of a training (50; 3 with --tiny)")
    parser.add_argument("--calls", type=count, default=20, help="that a time is the median of (%(default)s)")
    add_out(parser, "models.json")
    add_tiny(parser, "models of one layer")


def main(options: argparse.Namespace) -> int:
    chosen = {name: model for name, model in models(tiny=options.tiny).items() if name in options.only}
    for name, model in chosen.items():
        if model.needs and importlib.util.find_spec(model.needs) is None:
            raise UsageError(
                f"expected {model.needs} to be installed, which {name} is of: pip install '.[bench]'"
            )
    options.out.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.is_available()
    steps = options.steps or (3 if options.tiny else 50)
    record: dict[str, Any] = {
        "command": options.line,
        "device": torch.cuda.get_device_name() if gpu else "none",
        "versions": _versions(),
        "tiny": options.tiny,
        "rows": [],
    }

    def rows() -> Iterator[Sequence[str]]:
        for name, model in chosen.items():
            for found in measured(name, model, options.tasks, options.contenders, steps, options.calls):
                record["rows"].append(found)
                write_json(options.out / "models.json", record)
                yield cells(found)

    print(
        f"{record['device'] if gpu else 'No GPU'}; {', '.join(map(' '.join, record['versions'].items()))}\n"
    )
    for line in table(HEADER, rows()):
        print(line, flush=True)
    if not gpu:
        print("\nTimes on a CPU mean nothing: templates run in Triton's interpreter.")
    return int(any(found.get("wrong") or "error" in found for found in record["rows"]))


def _versions() -> dict[str, str]:
    found = {"torch": torch.__version__, "triton": triton.__version__}
    for package in ("transformers", "liger_kernel"):
        if importlib.util.find_spec(package) is not None:
            found[package] = importlib.metadata.version(package)
    return found


def cells(found: Mapping[str, Any]) -> Sequence[str]:
    ms = found.get("ms")
    if "error" in found:
        verdict = f"**failed**: {found['error'].splitlines()[0][:120]}".replace("|", "\\|")
    else:
        verdict = ("**WRONG**: " if found["wrong"] else "") + found["verdict"]
    return (
        found["model"],
        found["task"],
        found["who"],
        str(found.get("kernels", "")),
        str(found.get("launches", "")),
        ", ".join(f"{count} {name}" for name, count in found.get("replaced", {}).items()),
        f"{ms['median']:.2f} ({ms['p10']:.2f} to {ms['p90']:.2f})" if ms else "",
        f"{found['peak_mb']:.0f}" if "peak_mb" in found else "",
        verdict,
    )


# Measuring


@dataclass
class Baseline:
    """What eager has made of each task."""

    truth: torch.Tensor | None = None
    error: float = 0.0
    tokens: torch.Tensor | None = None
    losses: list[float] = field(default_factory=list)


def measured(
    name: str, model: Model, tasks: Sequence[str], contenders: Sequence[str], steps: int, calls: int
) -> Iterator[dict[str, Any]]:
    """A row for each task of each contender; who fails has an error in it."""
    baseline = Baseline()
    for who in CONTENDERS:
        if who not in ("eager", *contenders):
            continue
        if who == "liger" and (model.patch is None or importlib.util.find_spec("liger_kernel") is None):
            continue
        for task in model.tasks:
            if task not in tasks:
                continue
            row: dict[str, Any] = {"model": name, "task": task, "who": who}
            torch.compiler.reset()
            _forget()
            try:
                run = Run(model, who, baseline, steps, calls)
                with run.settings():
                    row |= getattr(run, task)()
                row["peak_mb"] = _peak()
            except Exception as error:
                traceback.print_exc()
                row["error"] = processes.words(error)
            row = {key: value for key, value in row.items() if value is not None}
            yield row


def _forget() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float | None:
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None


class Run:
    """A contender at one model, freshly made: its weights are those of every other's."""

    def __init__(self, model: Model, who: str, baseline: Baseline, steps: int, calls: int) -> None:
        self.model, self.who, self.baseline, self.steps, self.calls = model, who, baseline, steps, calls
        torch.manual_seed(0)
        self.module = model.make().eval()
        if who == "liger" and model.patch is not None:
            model.patch(self.module)
        self.replacing = tdsl.replacing(*templates(model.templates)) if who == "tdsl" else None

    def settings(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(torch._dynamo.config.patch(capture_dynamic_output_shape_ops=self.model.unbacked))
        stack.enter_context(self.replacing or nullcontext())
        return stack

    def compiled(self, function: Any, **settings: Any) -> Any:
        return function if self.who == "eager" else torch.compile(function, **settings)

    def counted(self, function: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        """What the first call gives, which compiles, and the kernels that came of it."""
        result, kernels, code = testing.count_kernels(function)
        launches = sum(len(_LAUNCH.findall(text)) for text in code)
        found: dict[str, Any] = {} if self.who == "eager" else {"kernels": kernels, "launches": launches}
        if self.replacing is not None:
            found["replaced"] = {
                template.template.name: times for template, times in self.replacing.counts.items()
            }
        return result, found

    def time(self, function: Callable[[], Any]) -> dict[str, float] | None:
        """Milliseconds, on a GPU."""
        if not torch.cuda.is_available():
            return None
        samples = []
        for _ in range(self.calls):
            torch.cuda.synchronize()
            began = time.perf_counter()
            function()
            torch.cuda.synchronize()
            samples.append((time.perf_counter() - began) * 1e3)
        return spread(samples)

    def forward(self) -> dict[str, Any]:
        batch = self.model.batch(0)
        call = self.compiled(self.module)
        with torch.no_grad():
            if self.baseline.truth is None:
                wide = copy.deepcopy(self.module).double()
                self.baseline.truth = self.model.result(wide(**_double(batch))).cpu()
                del wide
            output, found = self.counted(lambda: self.model.result(call(**batch)))
            truth = self.baseline.truth
            error = float(
                (output.cpu().double() - truth).square().mean().sqrt() / truth.square().mean().sqrt()
            )
            if self.who == "eager":
                self.baseline.error = error
            own = self.baseline.error
            wrong = not error <= 2 * own + 8 * torch.finfo(torch.float32).eps
            found["ms"] = self.time(lambda: call(**batch))
        return found | {
            "error_rms": error,
            "wrong": wrong,
            "verdict": f"error {error:.2g}, eager's {own:.2g}",
        }

    def generate(self) -> dict[str, Any]:
        ids = self.model.batch(0)["input_ids"]
        mode = "reduce-overhead" if torch.cuda.is_available() else None
        self.module.forward = self.compiled(self.module.forward, mode=mode)

        def call() -> Any:
            return self.module.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.model.new_tokens,
                min_new_tokens=self.model.new_tokens,
                do_sample=False,
                cache_implementation="static",
                disable_compile=True,  # it is compiled already, as each contender is
                pad_token_id=0,
            )

        tokens, found = self.counted(call)
        if self.who == "eager":
            self.baseline.tokens = tokens
        same = tokens.shape[1]
        if self.baseline.tokens is not None:
            # One token that is another makes others of all behind it.
            equal = (tokens == self.baseline.tokens).all(0)
            same = int(equal.long().cumprod(0).sum())
        new = same - ids.shape[1]
        found["ms"] = self.time(call)
        wrong = new < (self.model.new_tokens if ids.device.type == "cpu" else 1)
        return found | {
            "same_tokens": new,
            "wrong": wrong,
            "verdict": f"{new} of {self.model.new_tokens} tokens the same",
        }

    def train(self) -> dict[str, Any]:
        self.module.train()
        optimizer = torch.optim.AdamW(self.module.parameters(), lr=LEARNING_RATE)
        call = self.compiled(self.module)
        batches = [self.model.batch(seed) for seed in range(4)]

        def step(at: int) -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = self.model.loss(call(**batches[at % len(batches)]))
            loss.backward()
            optimizer.step()
            return float(loss)

        first, found = self.counted(lambda: step(0))
        losses = [first, *(step(at) for at in range(1, self.steps))]
        if self.who == "eager":
            self.baseline.losses = losses
        own = self.baseline.losses or losses
        apart = max(abs(mine - its) for mine, its in zip(losses, own, strict=True))
        scale = statistics.fmean(map(abs, own))
        narrow = next(self.module.parameters()).dtype != torch.float32
        found["ms"] = self.time(lambda: step(0))
        return found | {
            "losses": losses,
            "wrong": not apart <= (0.05 if narrow else 1e-3) * scale,
            "verdict": f"loss {losses[0]:.4f} to {losses[-1]:.4f} in {len(losses)} steps, at most {apart:.2g} from eager's",
        }


def _double(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in batch.items()
    }


def templates(names: Sequence[str]) -> list[Any]:
    """Of the examples, with what transformers spells in another way."""
    found = []
    for name in names:
        template = getattr(testing.load_module(EXAMPLES / name / f"{name}.py"), name)
        if name == "rms_norm":
            template.replaces(llama_norm)
        found.append(template)
    return found


def llama_norm(x: torch.Tensor, w: torch.Tensor, eps: float) -> torch.Tensor:
    """It casts before it multiplies."""
    v = x.float()
    return w * (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)
