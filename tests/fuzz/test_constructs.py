"""Whether the fuzzer meets the whole language: every construct, in every situation that it can be in."""

from __future__ import annotations

from tests.fuzz import constructs
from tests.fuzz.constructs import CONSTRUCTS, SITUATIONS, impossible, met, recorded, wanted
from tests.fuzz.programs import plan

WRITTEN = "nothing draws them yet; a value gets a row of STEPS, SMOOTH or LANES in scenes.py, an option one of SELDOM in templates.py"
AGAIN = "'python -m tests.fuzz --census --graphs 20000' finds graphs that have them"


def test_each_pair_is_drawn() -> None:
    """A new production, node, built-in, operator or option is wanted from the moment that it exists."""
    found: set[tuple[str, str]] = set()
    for index in recorded():
        found |= met(plan(constructs.SEED, index))
    missing = sorted(wanted() - found)
    never = sorted({construct for construct, _ in missing} - {construct for construct, _ in found})
    assert not never, f"{WRITTEN}: {never}"
    assert not missing, f"{len(missing)} pairs are never drawn ({AGAIN}): {missing[:20]}"


def test_what_is_said_to_be_impossible_is() -> None:
    wrong = set()
    for index in recorded():
        # A size below zero may stand in an expression of anything.
        wrong |= {
            (construct, situation)
            for construct, situation in met(plan(constructs.SEED, index))
            if situation != constructs.BELOW and impossible(construct, situation) is not None
        }
    assert not wrong, f"drawn, yet said to be impossible: {sorted(wrong)[:20]}"


def test_each_reason_is_for_something() -> None:
    for first, second, why in constructs.NEVER:
        assert why
        pairs = [(c, s) for c in CONSTRUCTS for s in SITUATIONS]
        assert any(constructs.matches(first, second, *pair) for pair in pairs), (first, second)
