"""What the house is like, in figures.

python -m tests.house            of this tree
python -m tests.house FOLDER     of another one
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx

ROOT = Path(__file__).parent.parent
LEAST_OF_A_TABLE = 3  # built-ins that a table names


def modules(root: Path, package: str = "tdsl") -> dict[str, ast.Module]:
    """Every module of a package, by its full name."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(
            path.read_text(encoding="utf-8")
        )
    return found


def imports(name: str, tree: ast.Module, known: Mapping[str, ast.Module]) -> Iterator[str]:
    """The modules of ours that a module imports, anywhere: in functions and for types alone, too."""
    for node in ast.walk(tree):
        wanted = []
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            wanted = [
                full if (full := f"{node.module}.{alias.name}") in known else node.module
                for alias in node.names
            ]
        yield from (module for module in wanted if module in known and module != name)


def circles(trees: Mapping[str, ast.Module]) -> list[list[str]]:
    graph = networkx.DiGraph()
    for name, tree in trees.items():
        graph.add_edges_from((name, other) for other in imports(name, tree, trees))
    return sorted(sorted(part) for part in networkx.strongly_connected_components(graph) if len(part) > 1)


def overridden(trees: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """By class of PyTorch's that ours extend: the members that ours define and it has."""
    from tdsl.lower.inductor.compat import names as private
    from tdsl.lower.runtime import names as private_runtime

    found: dict[str, set[str]] = {}
    for name, tree in trees.items():
        if not name.startswith("tdsl.lower."):
            continue
        classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        for node in classes.values():
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            parts = [node, *(classes[base] for base in bases if base in classes)]
            ours = {each.name for part in parts for each in part.body if isinstance(each, ast.FunctionDef)}
            for base in bases:
                theirs = getattr(private, base, None) or getattr(private_runtime, base, None)
                if isinstance(theirs, type) and theirs.__module__.startswith("torch."):
                    here = {member for member in ours if hasattr(theirs, member) and member != "__init__"}
                    found.setdefault(base, set()).update(here)
    return {name: sorted(members) for name, members in sorted(found.items())}


def readers_of_text(trees: Mapping[str, ast.Module]) -> list[str]:
    """Calls of `re` and `eval` below `lower`, each as 'module:line'."""
    return [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        if name.startswith("tdsl.lower")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (ast.unparse(node.func).startswith("re.") or ast.unparse(node.func) == "eval")
    ]


def spellers_of_triton(trees: Mapping[str, ast.Module]) -> list[str]:
    """Texts of Triton code below lower, but for emit and runtime, whose business it is, each as 'module:line'."""
    return [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        if name.startswith("tdsl.lower.") and not name.startswith(("tdsl.lower.emit", "tdsl.lower.runtime"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\btl\.", node.value)
        if node not in _docstrings(tree)
    ]


def _docstrings(tree: ast.Module) -> list[ast.expr]:
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = (node.body[0] for node in ast.walk(tree) if isinstance(node, holders) and node.body)
    return [statement.value for statement in first if isinstance(statement, ast.Expr)]


def tables_of_builtins(trees: Mapping[str, ast.Module]) -> list[str]:
    """Module-level tables that name several built-in functions, each as 'module.NAME'."""
    from tdsl.builtins import BUILTINS

    return [
        f"{name}.{ast.unparse(target)}"
        for name, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if len({each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)} & {*BUILTINS})
        >= LEAST_OF_A_TABLE
    ]


def lengths(root: Path) -> dict[str, int]:
    return {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted((root / "tdsl").rglob("*.py"))
    }


def main(root: Path) -> None:
    trees, lines = modules(root), lengths(root)
    print(
        f"{len(lines)} modules, {sum(lines.values())} lines, {statistics.median(lines.values()):.0f} the median"
    )
    longest = sorted(lines, key=lambda path: -lines[path])[:5]
    print("longest: " + ", ".join(f"{path} {lines[path]}" for path in longest))
    found = circles({**trees, **modules(root, "benchmarks")})
    print(
        f"{len(found)} circles of imports, below benchmarks, too, those in functions and for types alone among them"
    )
    for circle in found:
        print("    " + ", ".join(circle))
    members = overridden(trees)
    print(f"{sum(map(len, members.values()))} members of PyTorch's classes overridden")
    for name, names in members.items():
        print(f"    {name}: {', '.join(names)}")
    compat = {path: count for path, count in lines.items() if "/compat/" in path}
    print(f"{sum(compat.values())} lines below compat/")
    for path, count in compat.items():
        told = ast.get_docstring(ast.parse((root / path).read_text(encoding="utf-8"))) or ""
        print(f"    {Path(path).name} {count}: {told.partition(chr(10))[0]}")
    for title, places in (
        ("calls of re and eval below lower", readers_of_text(trees)),
        ("tables that name built-ins", tables_of_builtins(trees)),
        ("texts of Triton code below lower, outside emit and runtime", spellers_of_triton(trees)),
    ):
        print(f"{len(places)} {title}" + (": " + ", ".join(places) if places else ""))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
