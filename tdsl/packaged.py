"""Templates that were checked before they were shipped: what `tdsl package` wrote, found again as a module is imported.

    kernels/__init__.py    @tdsl.template("matmul.tdsl") def matmul(A, B): ...
    kernels/matmul.tdsl    its text
    kernels/_tdsl/         package.json: which tdsl wrote it, and of what text; *.ir: checked kernels; tuning.json: winners

A kernel is taken from there if this very tdsl wrote it and the text is still the same; else the text is parsed, as if
nothing had been packaged. The files are as trusted as the modules beside them, which are code.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import logging
import pickle
import re
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import triton

from tdsl import ir
from tdsl.identity import own_digest
from tdsl.lower.inductor.compat.call_names import cache_dir
from tdsl.lower.inductor.tuning import template_key
from tdsl.lower.runtime.autotuner import winner_path
from tdsl.source import Source
from tdsl.version import __version__

log = logging.getLogger(__name__)

FOLDER, MANIFEST, WINNERS = "_tdsl", "package.json", "tuning.json"
_WINNER = re.compile(r"\w+/\w+\.best_config")  # where in PyTorch's folder one lies


def kernel_of(source: Source, name: str, module: Mapping[str, Any]) -> ir.Kernel | None:
    """The kernel called `name` of a template's text, as it was packaged with the module that has these globals; None if
    it was not, or is not to be used.
    """
    file = module.get("__file__")
    if file is None:
        return None
    folder = Path(file).parent
    # A package may lie within another one.
    for _ in (module.get("__package__") or "").split("."):
        found = _opened(folder / FOLDER)
        if found is not None and (kernel := found.kernel(source, name)) is not None:
            return kernel
        folder = folder.parent
    return None


def text_digest(source: Source) -> str:
    return hashlib.sha256(source.text.encode("utf-8", "surrogatepass")).hexdigest()


class _Pickler(pickle.Pickler):
    """The text is beside the kernel, and where it will lie is not known yet."""

    def persistent_id(self, value: object) -> str | None:
        return "source" if isinstance(value, Source) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, source: Source) -> None:
        super().__init__(io.BytesIO(data))
        self.source = source

    def persistent_load(self, name: str) -> Source:
        return self.source


def written(kernel: ir.Kernel) -> bytes:
    """A checked kernel without its text."""
    # Which equal strings are one object depends on whether it was just checked, and a pickle tells. One that was read
    # back is always the same.
    return _pickled(_Unpickler(_pickled(kernel), kernel.source).load())


def _pickled(kernel: ir.Kernel) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=4).dump(kernel)
    return stream.getvalue()


class _Package:
    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.entries = {(entry["template"], entry["text"]): entry for entry in manifest["kernels"]}

    def kernel(self, source: Source, name: str) -> ir.Kernel | None:
        entry = self.entries.get((name, text_digest(source)))
        if entry is None:
            return None
        data = (self.folder / entry["file"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            log.warning("%s is not what was packaged: %s is parsed", self.folder / entry["file"], source.name)
            return None
        found: ir.Kernel = _Unpickler(data, source).load()
        return found


@cache
def _opened(folder: Path) -> _Package | None:
    """The package in a folder, if there is one that this tdsl wrote. Its winners are where a tuning looks for them."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if manifest["tdsl_digest"] != own_digest():
        which = manifest["tdsl"]
        log.warning(
            "%s was packaged by %s, and this is tdsl %s: its templates are parsed again, and tuned again",
            folder.parent,
            f"another build of tdsl {which}" if which == __version__ else f"tdsl {which}",
            __version__,
        )
        return None
    _hand_out(json.loads((folder / WINNERS).read_text(encoding="utf-8")))
    return _Package(folder, manifest)


def tuning_of(kernels: Iterable[ir.Kernel]) -> dict[str, Any]:
    """What this machine's tunings of these kernels found, eager calls and fused ones: all that PyTorch's folder has."""
    keys = {template_key(kernel).encode() for kernel in kernels}
    found = []
    for file in sorted(Path(cache_dir()).glob("*/*.py")):
        text = file.read_bytes()
        if not any(key in text for key in keys):
            continue
        path, tuning = winner_path(str(file)), _tuning_in(text)
        if path is None or tuning is None or not path.is_file():
            continue
        if tuning["tdsl"] != __version__ or tuning["template"].encode() not in keys:
            continue
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue  # cut off; whoever tunes says so
        name = f"{path.parent.name}/{path.name}"
        found.append(
            {
                "template": tuning["template"].partition(" ")[0],
                "device": tuning["device"],
                "sizes": tuning["sizes"],
                "path": name,
                "config": config,
            }
        )
    return {"torch": torch.__version__, "triton": triton.__version__, "winners": found}


def _tuning_in(text: bytes) -> dict[str, Any] | None:
    """What the module of a kernel says that its winner depends on."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "inductor_meta":
            return ast.literal_eval(ast.unparse(node.value)).get("tuning")  # type: ignore[no-any-return]
    return None


def _hand_out(tuning: Mapping[str, Any]) -> None:
    """Puts winners where PyTorch keeps them. Which kernel, torch, settings and GPU one is of is in its name."""
    if (tuning["torch"], tuning["triton"]) != (torch.__version__, triton.__version__):
        return
    for winner in tuning["winners"]:
        assert _WINNER.fullmatch(winner["path"]), f"{winner['path']} is no path of a winner"
        try:
            path = Path(cache_dir(), winner["path"])
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                made = Path(folder, path.name)
                made.write_text(json.dumps(winner["config"]), encoding="utf-8")
                made.replace(path)
        except OSError as error:
            log.debug("%s: %s", winner["path"], error)
            return


__all__ = ["FOLDER", "MANIFEST", "WINNERS", "kernel_of", "text_digest", "tuning_of", "written"]
