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
    for path in (
        "lower/inductor/compat/names.py",
        "lower/inductor/compat/call_names.py",
        "lower/runtime/names.py",
    )
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
call_names = importlib.import_module("tdsl.lower.inductor.compat.call_names")
probes = importlib.import_module("tdsl.lower.inductor.compat.probes")
private_runtime = importlib.import_module("tdsl.lower.runtime.names")


# Those of kernels' own modules; a release without them cannot run a template.
OVERRIDDEN_IN_MODULES = {
    "CachingAutotuner": (
        "_build_fast_launcher",
        "_create_compile_options",
        "_make_launcher",
        "_precompile_config",
        "autotune_to_one_config",
        "bench",
        "recheck_autotune_cache",
    ),
}


def test_what_ours_override():
    tables = {**probes.OVERRIDDEN, **OVERRIDDEN_IN_MODULES}
    owners = {name: getattr(private, name, None) or getattr(private_runtime, name) for name in tables}
    assert {name: tuple(members) for name, members in overridden(modules(PACKAGE.parent)).items()} == {
        # What a release lacks the next test tells.
        name: tuple(member for member in members if hasattr(owners[name], member))
        for name, members in tables.items()
    }


def test_nothing_is_lacking():
    assert probes.lacking() == []


CALLED = {
    call_names.AsyncCompile: ("triton", "use_process_pool", "wait_pool_ready"),
    call_names.CompiledTritonKernels: ("remove_future",),
    private_runtime.AutotuneCache: ("create",),
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
    stock = private_runtime.triton_heuristics.cached_autotune
    assert "caching_autotuner_cls" in inspect.signature(stock).parameters


def test_a_buffer_says_where_a_prologue_may_go():
    takes = inspect.signature(private.TemplateBuffer.__init__).parameters
    assert private.PROLOGUE_INPUTS in takes
    if torch.__version__ < "2.13":
        return  # nobody asks there
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
        if file in [Path(owner.__file__) for owner in (private, call_names, private_runtime)]:
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
