"""What PyTorch's compiler sees of a kernel.

Triton reads TRITON_INTERPRET as it is imported, and its interpreter needs NumPy, which nothing else here does: what is
missing is said before anything of PyTorch's compiler, which takes a Triton that cannot be imported for none, is there.
"""

from __future__ import annotations

import importlib.util
import os

from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.source import Source, Span

if os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("numpy") is None:
    raise TdslError(
        [
            Diagnostic(
                code=Code.MISSING_PACKAGE,
                message="Triton's interpreter needs NumPy, which is not installed",
                span=Span(Source("TRITON_INTERPRET=1", ""), 0, 0),
                help="pip install 'tdsl[interpreter]'",
            )
        ]
    )
