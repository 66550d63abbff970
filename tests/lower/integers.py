"""Random arithmetic of integers, as text that Python and the language read alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

FUNCTIONS: dict[str, Callable[..., int]] = {
    "cdiv": lambda a, b: -(-a // b),
    "minimum": min,
    "maximum": max,
    "abs": abs,
}


def value(text: str, values: dict[str, int]) -> int:
    return int(eval(text, {**FUNCTIONS, **values}))


def expressions(seed: int, names: Sequence[str], count: int, *, launch: bool = False) -> list[str]:
    """`launch`: only what a launcher can do. A divisor is never 0, if each of `names` is at least 0, or is `p`."""
    draw = random.Random(seed)
    operators = ["+", "-", "*", "//", "%"] + ([] if launch else ["&", "|", "^", "<<", ">>", "**"])

    def made(depth: int) -> str:
        if depth == 0 or draw.random() < 0.15:
            return draw.choice([*names, *names, str(draw.randint(0, 9))])
        kind = draw.choice([*operators, "//", "%", "-", "cdiv", "minimum", "maximum", "abs", "negative"])
        left = made(depth - 1)
        match kind:
            case "//" | "%":
                return f"({left} {kind} {divisor()})"
            case "cdiv":
                return f"cdiv({left}, {divisor()})"
            case "<<" | ">>":
                return f"({left} {kind} {draw.randint(0, 3)})"
            case "**":
                return f"({left} ** {draw.randint(0, 2)})"
            case "abs":
                return f"abs({left})"
            case "negative":
                return f"(-{left})"
            case "minimum" | "maximum":
                return f"{kind}({left}, {made(depth - 1)})"
        return f"({left} {kind} {made(depth - 1)})"

    def divisor() -> str:
        name = draw.choice([name for name in names if name != "p"])
        number = draw.randint(1, 7)
        return draw.choice([str(number), f"({name} + {number})", f"(-{number})", f"(-{name} - {number})"])

    return [made(draw.randint(1, 4)) for _ in range(count)]
