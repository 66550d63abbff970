"""Names that an author cannot bind, and what each one is already. Keywords are the scanner's."""

from __future__ import annotations

from tdsl.builtins import BUILTINS, CONST_TYPES, CONSTANTS
from tdsl.options import OPTIONS
from tdsl.types import DTYPES

RESERVED = {
    **dict.fromkeys(CONST_TYPES, "a type"),
    **dict.fromkeys(DTYPES, "a dtype"),
    **dict.fromkeys(BUILTINS, "a built-in function"),
    **dict.fromkeys(OPTIONS, "a launch option"),
    **dict.fromkeys(CONSTANTS, "a constant"),
    **dict.fromkeys(("tl", "triton"), "Triton's own module"),
}
