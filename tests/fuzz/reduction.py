"""Makes a failing plan smaller: each step is taken if the case still fails in the same way.

    plan, fails    ->    a plan with fewer lines, outputs, runs and configs, smaller sizes, plain strides

A step that makes nonsense of the program is no loss: the program without templates fails then, too, which is another
kind of failure, or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.fuzz.programs import Plan

Fails = Callable[[Plan], bool]
KEYS = ("shift", "gap", "step", "order", "expanded", "dynamic", "huge")


def reduced(plan: Plan, fails: Fails, steps: int = 150) -> Plan:
    """The smallest plan found; `fails` is asked at most `steps` times."""
    left = steps
    progress = True
    while progress and left > 0:
        progress = False
        for candidate in _candidates(plan):
            if candidate == plan:
                continue
            left -= 1
            if fails(candidate):
                plan = candidate
                progress = True
                break
            if left <= 0:
                break
    return plan


def tidied(plan: Plan) -> Plan:
    """Without lines, templates and inputs that nothing depends on."""
    lines = tuple(plan.live())
    text = "\n".join([*lines, *plan.returned])
    return replace(
        plan,
        lines=lines,
        templates=tuple(call for call in plan.templates if re.search(rf"\bk\.{call.name}\b", text)),
        inputs={name: spec for name, spec in plan.inputs.items() if re.search(rf"\b{name}\b", text)},
    )


def _candidates(plan: Plan) -> Iterator[Plan]:
    yield tidied(plan)
    if plan.eager:
        yield replace(plan, eager=False)
    if plan.again:
        yield replace(plan, again=False)
    for at in range(len(plan.runs)):
        if len(plan.runs) > 1:
            runs = plan.runs[:at] + plan.runs[at + 1 :]
            yield replace(plan, runs=runs)
    for name in plan.returned:
        if len(plan.returned) > 1:
            yield tidied(replace(plan, returned=tuple(other for other in plan.returned if other != name)))
    for at, line in enumerate(plan.lines):
        if " = " not in line:
            yield tidied(replace(plan, lines=plan.lines[:at] + plan.lines[at + 1 :]))
            continue
        target, text = line.split(" = ", 1)
        if "," in target:
            continue
        for name in dict.fromkeys(re.findall(r"\b[vx]\d+\b", text)):
            shortened = [
                re.sub(rf"\b{target}\b", name, other) for other in (*plan.lines[:at], *plan.lines[at + 1 :])
            ]
            returned = [re.sub(rf"\b{target}\b", name, other) for other in plan.returned]
            yield tidied(replace(plan, lines=tuple(shortened), returned=tuple(dict.fromkeys(returned))))
    for name, spec in plan.inputs.items():
        for key in KEYS:
            if key in spec:
                yield _with(plan, name, {k: v for k, v in spec.items() if k != key})
    for at, call in enumerate(plan.templates):
        if call.backward:
            changed = replace(call, backward="")
            yield replace(plan, templates=(*plan.templates[:at], changed, *plan.templates[at + 1 :]))
        for line in call.text.splitlines():
            if line.strip().startswith("config") and call.text.count("    config") > 1:
                changed = replace(call, text=call.text.replace(line + "\n", "", 1))
                yield replace(plan, templates=(*plan.templates[:at], changed, *plan.templates[at + 1 :]))
        options = re.sub(r", (num_\w+)=\d+", "", call.text)
        options = re.sub(r", group=\d+", "", options)
        for changed_text in (
            options,
            re.sub(r"^where T in \((\w+),.*$", r"where T in (\1):", options, flags=re.MULTILINE),
        ):
            if changed_text != call.text:
                yield replace(
                    plan,
                    templates=(
                        *plan.templates[:at],
                        replace(call, text=changed_text),
                        *plan.templates[at + 1 :],
                    ),
                )
    for at, run in enumerate(plan.runs):
        for name, size in run.items():
            for smaller in sorted({1, 2, 3, 5, 17, 33, size // 2, size - 1}):
                if 0 < smaller < size:
                    yield replace(plan, runs=(*plan.runs[:at], {**run, name: smaller}, *plan.runs[at + 1 :]))
    used = "\n".join(str(spec.get("shape")) + str(spec.get("values")) for spec in plan.inputs.values())
    runs = tuple(
        {name: size for name, size in run.items() if re.search(rf"\b{name}\b", used)} for run in plan.runs
    )
    if runs != plan.runs:
        yield replace(plan, runs=runs)


def _with(plan: Plan, name: str, spec: Any) -> Plan:
    return replace(plan, inputs={**plan.inputs, name: spec})
