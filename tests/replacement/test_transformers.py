"""A model of the `transformers` library, as it is."""

from __future__ import annotations

import copy

import pytest
import torch

import tdsl
from tests.replacement.llama import TEMPLATES, expected_counts

transformers = pytest.importorskip("transformers")


def numbers(call, model, ids):
    """The logits and the gradients of all parameters."""
    model.zero_grad()
    out = call(ids, labels=ids)
    out.loss.backward()
    return [out.logits.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.filterwarnings("default")  # the library's own advice decides nothing
def test_llama():
    torch.manual_seed(0)
    torch._dynamo.reset()
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=50,
        use_cache=False,
    )
    model = transformers.LlamaForCausalLM(config)
    ids = torch.randint(0, 50, (2, 6))
    double = copy.deepcopy(model).double()
    truth = numbers(double, double, ids)
    eager = numbers(model, model, ids)
    found = tdsl.replacing(*TEMPLATES, at_least=expected_counts(layers=2))
    got = numbers(torch.compile(model, fullgraph=True, options=found), model, ids)
    found.check()
    assert dict(found.counts) == expected_counts(layers=2)

    def error(made):
        return [float((one - exact).abs().max()) for one, exact in zip(made, truth, strict=True)]

    for mine, its, exact in zip(error(got), error(eager), truth, strict=True):
        assert mine <= 2 * its + 1e-6 * float(exact.abs().max()) + 1e-9
