"""The ways in which a model is used, each with templates in it that it does not call: numbers are those of eager PyTorch."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

import tdsl
from tests.replacement.llama import (
    TEMPLATES,
    Block,
    Llama,
    batch,
    expected_counts,
    rms_norm,
    step,
)

ONE = expected_counts(layers=1)


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*takes the place of nothing")
        yield


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def compiled(call, found, **settings):
    return torch.compile(call, fullgraph=True, options=found, **settings)


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_region_compiled_once():
    """PyTorch 2.13 uses the memory of a region's arguments again which that region has kept for its backward, with
    templates or without, unless it is told not to."""
    region = torch.compiler.nested_compile_region(Block.forward)
    model, args = Llama(around=lambda block, *args: region(block, *args)), batch()
    expected = step(model, model, *args)
    found = tdsl.replacing(*TEMPLATES, at_least=ONE)  # two blocks, and one region
    same(
        step(compiled(model, {**found, "inplace_buffers": False, "allow_buffer_reuse": False}), model, *args),
        expected,
    )
    assert dict(found.counts) == ONE


@pytest.mark.full
def test_sequences_of_any_length():
    model, found = Llama(layers=1), tdsl.replacing(*TEMPLATES, at_least=ONE)
    call = compiled(model, found, dynamic=True)
    for length in (6, 9, 17):
        args = batch(length=length)
        same(step(call, model, *args), step(model, model, *args))
    found.check()
    assert graphs() == 1


def test_decoding_token_by_token():
    """With a cache of keys and values that is written in place."""
    model, found = Llama(layers=1), tdsl.replacing(*TEMPLATES[:3], at_least=expected_counts(1, loss=False))
    call = compiled(model.logits, found)
    ids, _ = batch(length=8)
    caches = [[torch.zeros(2, 2, 8, 8) for _ in range(2)] for _ in model.blocks]
    with torch.no_grad():
        for at in range(8):
            position, mask = torch.tensor([at]), (torch.arange(8) <= at)[None]
            got = call(ids[:, at : at + 1], position, [(*cache, position, mask) for cache in caches])
            same(got, model(ids[:, : at + 1])[:, -1:])
    found.check()
    assert graphs() == 1


def test_autocast_around_the_model():
    model, args = Llama(layers=1), batch()
    truth = step(model.double(), model, *args)
    model.float()
    found = tdsl.replacing(*TEMPLATES, at_least=ONE)
    with torch.autocast("cpu", torch.bfloat16):
        expected = step(model, model, *args)
        got = step(compiled(model, found), model, *args)
    assert dict(found.counts) == ONE
    for mine, its, exact in zip(got, expected, truth, strict=True):
        assert mine.dtype == its.dtype
        assert (mine - exact).abs().max() <= 2 * (its - exact).abs().max() + 1e-4


@pytest.mark.filterwarnings("ignore:.*context_fn is passed to torch.utils.checkpoint")
def test_selective_checkpointing():
    def policy(context, op, *args, **kwargs):
        save = op == torch.ops.aten.mm.default
        return CheckpointPolicy.MUST_SAVE if save else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, policy)
    around = partial(checkpoint, use_reentrant=False, context_fn=contexts)
    model, args = Llama(layers=1, around=around), batch()
    expected = step(model, model, *args)
    found = tdsl.replacing(*TEMPLATES, at_least=ONE)
    same(step(compiled(model, found), model, *args), expected)
    assert dict(found.counts) == ONE


def test_compiled_autograd():
    model, args = Llama(layers=1), batch()
    expected = step(model, model, *args)
    found = tdsl.replacing(*TEMPLATES, at_least=ONE)
    call = compiled(model, found)
    with torch._dynamo.compiled_autograd._enable(torch.compile(fullgraph=True, options=found)):
        same(step(call, model, *args), expected)
    assert dict(found.counts) == ONE
    assert torch._dynamo.utils.counters["compiled_autograd"]["captures"] == 1


# torch.func


@pytest.mark.parametrize("way", ["grad", "vmap"])
def test_transforms_inside_of_a_graph(way):
    """A template would be its reference there, so what the model does stays."""

    def loss(weight, x):
        return rms_norm.reference(x, weight, 1e-5).sin().sum()

    call, args = torch.func.grad(loss), (torch.randn(8), torch.randn(3, 8))
    if way == "vmap":
        call = torch.func.vmap(call, in_dims=(None, 0))
    found = tdsl.replacing(rms_norm)
    same(compiled(call, found)(*args), call(*args))
    assert not any(found.counts.values())


def test_functional_call():
    model, (ids, target) = Llama(layers=1), batch()
    parameters = {name: value.detach() * 1.5 for name, value in model.named_parameters()}
    found = tdsl.replacing(*TEMPLATES, at_least=ONE)
    call = compiled(lambda p, *args: torch.func.functional_call(model, p, args), found)
    same(call(parameters, ids, target), torch.func.functional_call(model, parameters, (ids, target)))
    found.check()


# Copies


@pytest.mark.full
def test_copies_of_a_compiled_model():
    model, args = Llama(layers=1), batch()
    model.compile(fullgraph=True, options=tdsl.replacing(*TEMPLATES, at_least=ONE))
    names = list(model.state_dict())
    with torch.no_grad():
        expected = model(*args)
        copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        other = Llama(layers=1)
        other.load_state_dict(model.state_dict())
        for again in (*copies, other):
            assert list(again.state_dict()) == names
            found = tdsl.replacing(*TEMPLATES, at_least=ONE)
            same(compiled(again, found)(*args), expected)
            found.check()


@pytest.mark.full
def test_the_options_are_copied_and_pickled():
    found = tdsl.replacing(*TEMPLATES, at_least=ONE)
    for again in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        torch._dynamo.reset()
        model, args = Llama(layers=1), batch()
        with torch.no_grad():
            same(compiled(model, again)(*args), model(*args))
        again.check()
    assert not found.counts


# Quantised weights


class Quantised(torch.Tensor):
    """Bytes and a scale for each row, that are multiplied where the weight is used."""

    @staticmethod
    def __new__(cls, bytes, scale):
        return torch.Tensor._make_wrapper_subclass(cls, bytes.shape, dtype=scale.dtype, device=bytes.device)

    def __init__(self, bytes, scale):
        self.bytes, self.scale = bytes, scale

    def __tensor_flatten__(self):
        return ["bytes", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return Quantised(inner["bytes"], inner["scale"])

    def __repr__(self):
        return f"Quantised({list(self.shape)})"

    def dequantised(self):
        return self.bytes.to(self.scale.dtype) * self.scale

    @classmethod
    def of(cls, weight):
        scale = weight.abs().amax(1, keepdim=True) / 127
        return cls((weight / scale).round().to(torch.int8), scale)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.linear:
            x, weight, *bias = args
            return function(x, weight.dequantised(), *bias, **(kwargs or {}))
        return super().__torch_function__(function, types, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return cls(function(args[0].bytes), function(args[0].scale))
        args, kwargs = torch.utils._pytree.tree_map_only(
            cls, lambda weight: weight.dequantised(), (args, kwargs or {})
        )
        return function(*args, **kwargs)


def quantise(model):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(Quantised.of(module.weight.detach()), requires_grad=False)
    return model


def test_quantised_weights():
    model, args = quantise(Llama(layers=1)), batch()
    found = tdsl.replacing(*TEMPLATES, at_least=ONE)
    with torch.no_grad():
        same(compiled(model, found)(*args), model(*args))
    found.check()


# A program of its own


@pytest.mark.full
def test_an_exported_program_that_is_compiled_ahead(tmp_path):
    model, args = Llama(layers=1), batch()
    with torch.no_grad():
        expected = model(*args)
        program = torch.export.export(model, args)
        found = tdsl.replacing(*TEMPLATES, at_least=ONE)
        found.apply(program.graph_module)
        found.check()
        same(program.module()(*args), expected)
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
        same(torch._inductor.aoti_load_package(package)(*args), expected)
