"""What this release of PyTorch has of the hooks that fusion needs.

    lacking()    ->    ["ExternalTritonTemplateKernel.indexing"]        []: all is there

Where something is missing no call is lowered: each stays a call of its operator in the compiled graph, which launches the
template's own kernel. The tables are of names, not of classes, since a class may be what is missing.
"""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import torch

_SCHEDULING = (
    "can_fuse_horizontal",
    "can_fuse_multi_outputs_template",
    "can_fuse_vertical",
    "codegen_template",
    "fuse",
)
# By class, every member that ours override: one that is gone, or called otherwise, would be skipped silently.
# `python -m tests.house` reads them from our classes, and a test compares.
OVERRIDDEN: dict[str, tuple[str, ...]] = {
    "CUDACombinedScheduling": _SCHEDULING,
    "CppScheduling": _SCHEDULING,
    "CustomGraphModulePass": ("__call__", "uuid"),
    "ExternalTritonTemplateKernel": (
        "_compute_fusion_metadata",
        "_finalize_partial_render",
        "_setup_fusion_hooks",
        "call_kernel",
        "codegen_prologues_in_subgraphs",
        "emit_kernel_override",
        "estimate_kernel_num_bytes",
        "get_index_dtype_as_torch_dtype",
        "imports_for_benchmark_kernel",
        "indexing",
        "kernel_benchmark_extra_args",
        "load",
        "rename_indexing",
        "set_subgraph_body",
        "store",
    ),
    "MultiOutput": ("codegen", "get_read_writes", "should_allocate"),
    "TemplateBuffer": (
        "extract_read_writes",
        "get_device",
        "get_free_symbol_uses",
        "get_size",
        "has_aliasing_or_mutation_for_prologue_fusion",
        "should_allocate",
    ),
    "TritonScheduling": ("_emit_kernel_to_wrapper",),
}
# Of these, what fusion does without: nobody asks for it in 2.12, and some builds say it otherwise.
DISPENSABLE = {"TemplateBuffer.has_aliasing_or_mutation_for_prologue_fusion"}
# What ours call, or put others in the place of, without overriding it.
CALLED: dict[str, tuple[str, ...]] = {
    "ExternalTritonTemplateKernel": (
        "_make_independent_subgraph",
        "_get_store_output_subgraph_name",
        "codegen_template_body",
        "codegen_body",
    ),
    "TemplateBuffer": ("realize_template_input", "is_multi_outputs_template"),
    "CppScheduling": ("free_buffers_in_scheduler",),
    "CUDACombinedScheduling": ("free_buffers_in_scheduler",),
    "TritonScheduling": ("_codegen_single_template", "codegen_comment"),
    "Scheduler": ("fuse_nodes_once",),
    "SchedulerNode": ("apply_new_loop_order", "refresh_dependencies"),
    "LoopBody": ("get_all_read_expr", "get_all_write_expr"),
    "TracingContext": ("try_get",),
}
# What ours pass or take by position: the first parameters.
POSITIONAL: dict[tuple[str, str], tuple[str, ...]] = {
    ("ExternalTritonTemplateKernel", "_compute_fusion_metadata"): (
        "self",
        "scheduling",
        "epilogue_nodes",
        "prologue_nodes",
        "buf_name_to_prologue_group",
    ),
    ("TritonScheduling", "_codegen_single_template"): (
        "self",
        "kernel",
        "render",
        "template_node",
        "epilogue_nodes",
        "prologue_nodes",
    ),
    ("TritonScheduling", "_emit_kernel_to_wrapper"): (
        "self",
        "wrapper",
        "kernel",
        "src_code",
        "kernel_name",
        "subs_name",
    ),
}
# What ours pass by name. (`PROLOGUE_INPUTS` is one more, which releases call otherwise.)
BY_NAME: dict[tuple[str, str], tuple[str, ...]] = {
    ("TemplateBuffer", "__init__"): ("layout", "inputs", "make_kernel_render", "named_inputs"),
}


def lacking() -> list[str]:
    """What fusion needs and this release of PyTorch has not, or has otherwise."""
    try:
        names = importlib.import_module("tdsl.lower.inductor.compat.names")
    except ImportError as error:
        if not (error.name or "").startswith("torch"):
            raise
        return [str(error)]
    found = [
        f"{owner}.{member}"
        for table in (OVERRIDDEN, CALLED)
        for owner, members in table.items()
        for member in members
        if f"{owner}.{member}" not in DISPENSABLE
        and not callable(getattr(getattr(names, owner), member, None))
    ]
    for (owner, member), wanted in POSITIONAL.items():
        if _parameters(names, owner, member)[: len(wanted)] != wanted:
            found.append(f"{owner}.{member}({', '.join(wanted)})")
    for (owner, member), wanted in BY_NAME.items():
        if not {*wanted} <= {*_parameters(names, owner, member)}:
            found.append(f"{owner}.{member}({', '.join(wanted)})")
    if not names.PROLOGUE_INPUTS:
        found.append("TemplateBuffer.__init__(allowed_prologue_inps)")
    return found


def _parameters(names: ModuleType, owner: str, member: str) -> tuple[str, ...]:
    method = getattr(getattr(names, owner), member, None)
    return tuple(inspect.signature(method).parameters) if callable(method) else ()


def warning(lacking: list[str]) -> str:
    return (
        f"torch {torch.__version__} has not what tdsl fuses templates by: {', '.join(lacking)}. Each template has a "
        "kernel of its own, which is slower and no less right. Upgrade tdsl, or use the release of torch that its README names."
    )
