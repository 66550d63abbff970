"""A small model of the Llama family that calls no template, and the templates that replace what it does.

A module, so that other processes import it, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from examples.cross_entropy.cross_entropy import cross_entropy
from examples.rms_norm.rms_norm import rms_norm
from examples.rope.rope import rope
from examples.swiglu.swiglu import swiglu

TEMPLATES = (rms_norm, rope, swiglu, cross_entropy)


@rms_norm.replaces
def llama_norm(x, w, eps):
    v = x.float()
    return w * (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


class Norm(nn.Module):
    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(1 + torch.randn(width) / 10), eps

    def forward(self, x):
        v = x.float()
        v = v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * v.to(x.dtype)


def turned(x, cos, sin):
    first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return x * cos[None] + torch.cat((-second, first), -1) * sin[None]


class Attention(nn.Module):
    def __init__(self, width, heads=4, groups=2):
        super().__init__()
        self.d = width // heads
        self.q, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, groups * self.d, bias=False) for _ in range(2))

    def forward(self, x, cos, sin, past=None):
        """`past`: keys, values, and which of their places may be seen; the new ones are written where `past` says."""
        q, k, v = (each(x).unflatten(-1, (-1, self.d)).transpose(1, 2) for each in (self.q, self.k, self.v))
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        mask = None
        if past is not None:
            keys, values, position, mask = past
            k, v = keys.index_copy_(2, position, k), values.index_copy_(2, position, v)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        return self.o(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.norms = nn.ModuleList(Norm(width) for _ in range(2))
        self.attention, self.mlp = Attention(width), MLP(width, inner)

    def forward(self, x, cos, sin, past=None):
        x = x + self.attention(self.norms[0](x), cos, sin, past)
        return x + self.mlp(self.norms[1](x))


class Llama(nn.Module):
    """`around` is what each block is called through, such as a checkpoint."""

    def __init__(self, layers=2, width=32, inner=40, vocabulary=50, around=None):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, inner) for _ in range(layers))
        self.norm, self.head = Norm(width), nn.Linear(width, vocabulary, bias=False)
        self.around = around

    def angles(self, positions):
        d = self.blocks[0].attention.d
        angle = positions[:, None] * 10000 ** (-torch.arange(0, d, 2, device=positions.device) / d)
        angles = torch.cat((angle, angle), -1)
        return angles.cos(), angles.sin()

    def logits(self, ids, positions, past=None):
        x, (cos, sin) = self.embedding(ids), self.angles(positions)
        for at, block in enumerate(self.blocks):
            args = (x, cos, sin, None if past is None else past[at])
            x = block(*args) if self.around is None else self.around(block, *args)
        return self.head(self.norm(x))

    def forward(self, ids, target=None):
        logits = self.logits(ids, torch.arange(ids.shape[1], device=ids.device))
        if target is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1).float(), target.flatten())


def expected_counts(layers=2, loss=True):
    """How often each template is put into a `Llama`."""
    return {
        rms_norm: 2 * layers + 1,
        rope: 2 * layers,
        swiglu: layers,
        **({cross_entropy: 1} if loss else {}),
    }


def batch(rows=2, length=6, vocabulary=50):
    ids = torch.randint(0, vocabulary, (rows, length + 1))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def step(call, model, *args):
    """The loss, and the gradient of each parameter."""
    for parameter in model.parameters():
        parameter.grad = None
    loss = call(*args)
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]
