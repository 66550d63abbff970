"""Every name of PyTorch's that is not public: what fails here is what a new release has changed."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest
import torch

import tdsl
from tdsl.lower.emit.functions import INTRINSICS
from tests.house import modules, overridden

PACKAGE = Path(tdsl.__file__).parent
IMPORTS = [
    (node.module, alias.name)
    for path in ("lower/inductor/compat/names.py", "lower/runtime/names.py")
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))
    if isinstance(node, ast.ImportFrom) and node.module is not None
    for alias in node.names
    if "._" in f"{node.module}.{alias.name}"
]


def is_there(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name) or bool(
            importlib.import_module(f"{module}.{name}")
        )
    except ImportError:
        return False


# All that are gone, at once: the modules themselves stop at the first.
GONE = [f"{module}.{name}" for module, name in IMPORTS if not is_there(module, name)]
if GONE:
    raise ImportError(f"torch {torch.__version__} has no {', '.join(GONE)}")
private = importlib.import_module("tdsl.lower.inductor.compat.names")
private_runtime = importlib.import_module("tdsl.lower.runtime.names")


# Every member that ours override and the class that they extend has (`house` reads both): one that a release takes away, or
# calls otherwise, would be skipped silently.
SCHEDULING = (
    "can_fuse_horizontal",
    "can_fuse_multi_outputs_template",
    "can_fuse_vertical",
    "codegen_template",
    "fuse",
)
OVERRIDDEN = {
    "CUDACombinedScheduling": SCHEDULING,
    "CachingAutotuner": (
        "_build_fast_launcher",
        "_create_compile_options",
        "_make_launcher",
        "_precompile_config",
        "autotune_to_one_config",
        "bench",
        "recheck_autotune_cache",
    ),
    "CppScheduling": SCHEDULING,
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


def test_what_ours_override():
    found = overridden(modules(PACKAGE.parent))
    assert {name: tuple(members) for name, members in found.items()} == OVERRIDDEN


# What ours call, or put others in the place of, without overriding it.
CALLED = {
    private.ExternalTritonTemplateKernel: (
        "_make_independent_subgraph",
        "_get_store_output_subgraph_name",
        "codegen_template_body",
        "codegen_body",
    ),
    private.TemplateBuffer: ("realize_template_input", "is_multi_outputs_template"),
    private.CppScheduling: ("free_buffers_in_scheduler",),
    private.CUDACombinedScheduling: ("free_buffers_in_scheduler",),
    private.TritonScheduling: ("_codegen_single_template", "codegen_comment"),
    private.AsyncCompile: ("triton", "use_process_pool", "wait_pool_ready"),
    private.CompiledTritonKernels: ("remove_future",),
    private_runtime.AutotuneCache: ("create",),
    private.SchedulerNode: ("apply_new_loop_order", "refresh_dependencies"),
    private.LoopBody: ("get_all_read_expr", "get_all_write_expr"),
    private.TracingContext: ("try_get",),
}


@pytest.mark.parametrize("owner, name", [(owner, name) for owner, names in CALLED.items() for name in names])
def test_method(owner, name):
    assert callable(getattr(owner, name))


@pytest.mark.parametrize(
    "module, names",
    [
        ("autotuner", ("template_autotune",)),
        ("intrinsics", INTRINSICS),
        (
            "interpreter",
            (*(name for name in INTRINSICS if name != "as_stored"), "interpreted", "libdevice", "tl_math"),
        ),
    ],
)
def test_packages_of_an_earlier_release_find_what_they_import(module, names):
    there = importlib.import_module(f"tdsl.lower.inductor.{module}")
    here = importlib.import_module(f"tdsl.lower.runtime.{module}")
    assert all(getattr(there, name) is getattr(here, name) for name in names)


def test_what_ours_ask_of_the_scheduler():
    """Attributes of an instance, and the method that each round of fusions is."""
    scheduler = inspect.getmodule(private.SchedulerNode).Scheduler
    takes = list(inspect.signature(scheduler.fuse_nodes_once).parameters)
    assert takes[:2] == ["self", "nodes"]
    made = inspect.getsource(scheduler)
    for name in (
        "name_to_buf",
        "name_to_node",
        "name_to_fused_node",
        "mutation_real_name",
        "mutation_renames",
    ):
        assert f"self.{name}: " in made or f"self.{name} = " in made, name
    assert "self.fuse_nodes_once(nodes" in inspect.getsource(scheduler.fuse_nodes)


def test_the_arguments_that_ours_take():
    stock = private.ExternalTritonTemplateKernel._compute_fusion_metadata
    assert list(inspect.signature(stock).parameters) == [
        "self",
        "scheduling",
        "epilogue_nodes",
        "prologue_nodes",
        "buf_name_to_prologue_group",
    ]
    stock = private.TritonScheduling._codegen_single_template
    assert list(inspect.signature(stock).parameters)[:6] == [
        "self",
        "kernel",
        "render",
        "template_node",
        "epilogue_nodes",
        "prologue_nodes",
    ]
    stock = private.TritonScheduling._emit_kernel_to_wrapper
    assert list(inspect.signature(stock).parameters)[:6] == [
        "self",
        "wrapper",
        "kernel",
        "src_code",
        "kernel_name",
        "subs_name",
    ]
    stock = private_runtime.triton_heuristics.cached_autotune
    assert "caching_autotuner_cls" in inspect.signature(stock).parameters


def test_a_buffer_says_where_a_prologue_may_go():
    takes = inspect.signature(private.TemplateBuffer.__init__).parameters
    assert private.PROLOGUE_INPUTS in takes
    asked = {
        "allowed_prologue_inps": "has_aliasing_or_mutation_for_prologue_fusion",
        "load_input_fusion_allowed_inputs": "has_aliasing_or_mutation_for_producer_fusion",
    }
    source = inspect.getsource(inspect.getmodule(private.SchedulerNode))
    assert f".{asked[private.PROLOGUE_INPUTS]}(" in source


def test_what_is_known_of_the_outputs_of_a_graph():
    from torch._functorch._aot_autograd.schemas import OutputAliasInfo, ViewAndMutationMeta

    assert {"output_info", "tokens"} <= {field.name for field in dataclasses.fields(ViewAndMutationMeta)}
    assert "num_mutated_inp_runtime_indices" in inspect.getsource(ViewAndMutationMeta)
    assert "output_type" in {field.name for field in dataclasses.fields(OutputAliasInfo)}
    assert {"non_alias", "alias_of_input", "is_input"} <= set(private.OutputType.__members__)


def test_where_the_scheduler_looks_for_the_bytes_of_a_tensor():
    from torch._inductor.graph import GraphLowering

    text = inspect.getsource(GraphLowering.get_dep_size_hint)
    assert "if (dep, count_bytes) not in self.dep_size_hint_cache" in text
    assert callable(private.Dep.has_unbacked_symbols) and callable(private.Dep.get_numel)
    assert "BUCKETIZE" in private.MemoryUsageType.__members__


def test_what_ours_replaces_in_tritons_interpreter():
    stock = private_runtime.triton_interpreter()
    assert list(inspect.signature(stock._patch_builtin).parameters) == ["pkg", "builder", "scope"]
    assert list(inspect.signature(stock._patch_attr).parameters) == [
        "obj",
        "name",
        "member",
        "builder",
        "scope",
    ]
    assert {"debug", "sanitize_overflow"} <= set(vars(stock.interpreter_builder.options))


def test_nobody_else_imports_private_names():
    for file in PACKAGE.rglob("*.py"):
        if file in (Path(private.__file__), Path(private_runtime.__file__)):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                private_name = parts[0] == "torch" and any(part.startswith("_") for part in parts)
                allowed = file.name == "testing.py"  # what PyTorch's own tests use, and users' too
                assert not private_name or allowed, f"{file.name} imports {name}"
