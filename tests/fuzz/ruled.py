"""Templates with an `autocast=`, in programs that run where it is on: given other dtypes than those they calculate in.

    ruled(rng, made)    ->    the template with a rule and parameters that take what the rule casts, or None

A template is drawn as for the dtype that the rule casts to: its bounds and its reference are this dtype's. Which dtype
that is says PyTorch, whose operators of the kind `harness.cast_as` asks.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from tests.fuzz.templates import Template

GIVEN = {"bf16": ("f32", "f32", "bf16", "f16"), "f32": ("bf16", "f16", "f32"), "f16": ("f32", "bf16", "f16")}
AUTOCAST = "bf16"  # what autocast lowers to, in `harness`
RULES = ("lower", "promote", "f32", "f16")


def ruled(rng: random.Random, made: Template) -> Template | None:
    head = made.text[made.text.index("template ") :].partition("->")[0]
    variable = set(re.findall(r"\b(\w+): T\[", head))
    places = [at for at, param in enumerate(made.params) if param.name in variable]
    dtypes = {made.params[at].dtype for at in places}
    if len(dtypes) != 1 or any(param.inout for param in made.params):
        return None
    (dtype,) = dtypes
    if dtype not in GIVEN:
        return None
    rules = ["promote"] if dtype == "bf16" else ["f32", "promote"] if dtype == "f32" else ["f16"]
    rules += ["lower"] * 2 if dtype == AUTOCAST else []
    rule = rng.choice(rules)
    given = [rng.choice(GIVEN[dtype]) for _ in places]
    if rule == "promote":
        # PyTorch promotes among float32 and autocast's own dtype.
        given = [rng.choice([dtype, AUTOCAST]) for _ in places]
        given[rng.randrange(len(given))] = dtype
    if rng.random() < 0.15:
        given = [dtype] * len(places)
    params = list(made.params)
    for at, to in zip(places, given, strict=True):
        params[at] = replace(params[at], dtype=to)
    return replace(made, params=params, autocast=rule, cast=tuple(places))
