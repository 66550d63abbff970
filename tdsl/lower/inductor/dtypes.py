"""PyTorch's dtypes, and pointers in a Triton signature, by tdsl's dtype names."""

from __future__ import annotations

import torch

TORCH: dict[str, torch.dtype] = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f8e4m3": torch.float8_e4m3fn,
    "f8e5m2": torch.float8_e5m2,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "bool": torch.bool,
}
SIGNATURE: dict[str, str] = {  # as a pointer in a Triton signature
    "f64": "*fp64",
    "f32": "*fp32",
    "f16": "*fp16",
    "bf16": "*bf16",
    "f8e4m3": "*fp8e4nv",
    "f8e5m2": "*fp8e5",
    "i64": "*i64",
    "i32": "*i32",
    "i16": "*i16",
    "i8": "*i8",
    "u8": "*u8",
    "bool": "*i1",
}
NAMES: dict[torch.dtype, str] = {dtype: name for name, dtype in TORCH.items()}
