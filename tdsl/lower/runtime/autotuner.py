"""The decorator of every kernel's module: Inductor's own autotuner, with cares that it does not take.

    @template_autotune(configs=[...], ...)    ->    a TemplateAutotuner, which is Inductor's CachingAutotuner
    @triton.jit

Two threads may make the first call at the same time; a cache file may be truncated, or its folder full; a
candidate's `maxnreg` and `num_ctas` count; what Triton fails to compile is tried with more warps; any thread may
launch what needs descriptors; and each candidate's time is told as it is known. This module is imported by compile workers: nothing here may import the compiler.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import torch
import triton

from tdsl.lower.runtime.names import (
    AutotuneCache,
    CachingAutotuner,
    cached_autotune,
    hash_configs,
    triton_config_to_hashable,
)

log = logging.getLogger(__name__)


# What Triton raises of files in its cache that are cut off or gone.
UNREADABLE = (JSONDecodeError, UnicodeDecodeError, KeyError, FileNotFoundError)

# What it raises when one of its own passes has made something invalid. How values lie in registers depends on the
# number of warps, and so do those mistakes: one in a thousand fuzzed kernels, of those that store several f64.
PASS_FAILED = "PassManager::run failed"
MOST_WARPS = 8


class TemplateAutotuner(CachingAutotuner):
    """Compiles the candidates of one kernel, times them at its first call, and launches the winner."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        save = kwargs.get("save_cache_hook")
        if save:
            kwargs["save_cache_hook"] = _Saving(save)
        super().__init__(*args, **kwargs)

    def _create_compile_options(self, cfg: Any, compile_meta: dict[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = super()._create_compile_options(cfg, compile_meta)
        if cfg.maxnreg is not None:
            options["maxnreg"] = cfg.maxnreg
        if cfg.num_ctas != 1:
            options["num_ctas"] = cfg.num_ctas
        return options

    def _precompile_config(self, cfg: Any, **options: Any) -> Any:
        # `options`: since 2.14, for which compute capability to compile.
        try:
            with _unlogged():
                return super()._precompile_config(cfg, **options)
        except UNREADABLE as error:
            return self._compile_anew(cfg, error, **options)
        except RuntimeError as error:
            if PASS_FAILED not in str(error) or cfg.num_warps >= MOST_WARPS:
                raise
        more = copy(cfg)
        more.num_warps *= 2
        log.warning(
            "Triton failed to compile %s with %s; trying num_warps=%d", self.fn.__name__, cfg, more.num_warps
        )
        return self._precompile_config(more, **options)

    def _make_launcher(self, compile_result: Any) -> Any:
        # What does not fit on the device is returned, not raised.
        try:
            _check_whole(compile_result)
            return super()._make_launcher(compile_result)
        except RuntimeError as error:
            self._ensure_kernel_loaded()
            made = self._compile_anew(compile_result.config, error)
            self.compile_results = [
                made if result is compile_result else result for result in self.compile_results
            ]
            return super()._make_launcher(made)

    def _compile_anew(self, cfg: Any, error: Exception, **options: Any) -> Any:
        """For machine code in Triton's cache that cannot be read or loaded."""
        log.warning(
            "the cached machine code of %s cannot be used and is compiled again: %r", self.fn.__name__, error
        )
        with triton.knobs.compilation.scope():
            triton.knobs.compilation.always_compile = True
            return super()._precompile_config(cfg, **options)

    def autotune_to_one_config(self, *args: Any, **kwargs: Any) -> None:
        # A thread that comes second finds the winner: the losers are unloaded by now.
        with self.lock:
            if len(self.launchers) > 1:
                log.info("%s: timing %d candidates", self.fn.__name__, len(self.launchers))
                super().autotune_to_one_config(*args, **kwargs)  # type: ignore[no-untyped-call]
                log.info("%s: the winner is %s", self.fn.__name__, self.launchers[0].config)

    def bench(self, launcher: Any, *args: Any, **kwargs: Any) -> float:
        time: float = super().bench(launcher, *args, **kwargs)  # type: ignore[no-untyped-call]
        log.info(
            "%s: %.4f ms, %s registers, %s spilled, %s bytes shared: %s",
            self.fn.__name__,
            time,
            launcher.n_regs,
            launcher.n_spills,
            launcher.shared,
            launcher.config,
        )
        return time

    def _build_fast_launcher(self, launcher: Any) -> Any:
        # What Inductor calls from the second launch on. Triton asks for memory for descriptors (TMA) there, and
        # Inductor has said where to get it in the thread and context of the first launch only.
        made = super()._build_fast_launcher(launcher)
        if made is not None:
            return made  # launches what needs none
        device = self.device_props.type

        def allocate(size: int, alignment: int, stream: int | None) -> torch.Tensor:
            return torch.empty(size, dtype=torch.int8, device=device)

        def launch(*args: Any, **kwargs: Any) -> Any:
            triton.set_allocator(allocate)
            return launcher(*args, **kwargs)

        return launch

    def recheck_autotune_cache(self, *args: Any, **kwargs: Any) -> None:
        kept = list(self.compile_results)
        configs = [result.config for result in kept]
        try:
            super().recheck_autotune_cache(*args, **kwargs)
            broken = not _are_among([result.config for result in self.compile_results], configs)
        except Exception as error:
            log.debug("the stored winner of %s", self.filename, exc_info=error)
            broken = True
        if broken:
            _discard(self.filename, configs, self.inductor_meta)
            self.compile_results = kept


def _check_whole(compile_result: Any) -> None:
    """Raises RuntimeError for machine code that was cut off: of some a driver does not notice, and crashes.

    Where the tables of an ELF file are: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
    """
    kernel = compile_result.kernel
    if not hasattr(kernel, "cubin_path"):
        code = next((kernel.asm[kind] for kind in ("cubin", "hsaco") if kind in kernel.asm), None)
    else:
        if kernel.cubin_path is None:
            compile_result.reload_cubin_path()
        code = (
            Path(kernel.cubin_path).read_bytes() if kernel.cubin_path.endswith(("cubin", "hsaco")) else None
        )
    if code is None:
        return
    if len(code) >= 64 and code[:4] == b"\x7fELF":
        programs, sections = struct.unpack_from("<2Q", code, 32)
        program_size, program_count, section_size, section_count = struct.unpack_from("<4H", code, 54)
        if max(programs + program_size * program_count, sections + section_size * section_count) <= len(code):
            return
    raise RuntimeError(f"{len(code)} bytes of machine code are not all of it")


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps Inductor from reporting as a failure, with a traceback, what is then made good."""

    def stays(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, UNREADABLE) and PASS_FAILED not in str(error)

    theirs = logging.getLogger(CachingAutotuner.__module__)
    theirs.addFilter(stays)
    try:
        yield
    finally:
        theirs.removeFilter(stays)


class _Saving:
    """Stores the winner, where it can: a call that has its result is right without."""

    def __init__(self, save: Callable[..., None]) -> None:
        self.save = save

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        try:
            self.save(*args, **kwargs)
        except OSError as error:
            log.warning(
                "the winner of a tuning could not be stored, and the next process times again: %s", error
            )


def template_autotune(*, configs: Sequence[Any], **settings: Any) -> Callable[[Any], Any]:
    """What a kernel's module is decorated with. Takes what `cached_autotune` takes."""
    try:
        return _decorator(configs, settings)
    except Exception as error:
        log.debug("the stored winner of %s", settings["filename"], exc_info=error)
        _discard(settings["filename"], configs, settings["inductor_meta"])
    return _decorator(configs, settings)


def _decorator(configs: Sequence[Any], settings: dict[str, Any]) -> Callable[[Any], Any]:
    # Inductor takes what it reads out of these tables.
    fresh = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    decorate: Callable[[Any], Any] = cached_autotune(
        configs=list(configs), caching_autotuner_cls=TemplateAutotuner, **fresh
    )

    def checked(function: Any) -> Any:
        made = decorate(function)
        if isinstance(made, TemplateAutotuner):
            if not _are_among(made.configs, configs):
                _discard(settings["filename"], configs, settings["inductor_meta"])
                return _decorator(configs, settings)(function)
            # A winner that was read has lost what Inductor does not store.
            known = {triton_config_to_hashable(config): config for config in configs}
            made.configs = [known[triton_config_to_hashable(config)] for config in made.configs]
        return made

    return checked


def _are_among(found: Sequence[Any], configs: Sequence[Any]) -> bool:
    known = [triton_config_to_hashable(config) for config in configs]
    return all(triton_config_to_hashable(config) in known for config in found)


def winner_path(
    filename: str, configs: Sequence[Any] = (), inductor_meta: dict[str, Any] | None = None
) -> Path | None:
    """Where the winner of a kernel's module is stored, if winners are stored on disk."""
    cache = AutotuneCache.create(inductor_meta or {}, filename, hash_configs(list(configs)))
    return Path(cache.local_cache[1]) if cache is not None and cache.local_cache is not None else None


def _discard(filename: str | None, configs: Sequence[Any], inductor_meta: dict[str, Any]) -> None:
    """Removes a stored winner that is none, so that the next process need not warn again."""
    path = winner_path(filename or "", configs, inductor_meta)
    log.warning("a stored tuning result cannot be read and is ignored: %s", path)
    try:
        if path is not None:
            path.unlink()
    except OSError:
        pass
