"""The plugin for pytest that `tdsl.testing` names: the `golden` fixture, and `--update-golden`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files that tests compare with"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and os.environ.get("CI"):
        raise pytest.UsageError(
            "--update-golden is refused where CI is set: goldens are reviewed, then committed"
        )
    config.pluginmanager.register(_GoldenOwners(config), "tdsl-golden-owners")


class Golden:
    """The `golden` fixture: texts compared, byte for byte, with files in `golden/` beside the test's file."""

    def __init__(self, folder: Path, update: bool, owned: set[str]) -> None:
        self.folder = folder
        self._update = update
        self._owned = owned

    def __call__(self, name: str, text: str) -> None:
        """Compare `text` with the file `name` (`CASE/triton.py`), or write it under --update-golden."""
        self.owns(name)
        path = self.folder / name
        data = text.encode()
        if self._update:
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return
        if not path.is_file():
            pytest.fail(f"{path} does not exist; run pytest --update-golden, and read what it writes", False)
        golden = path.read_bytes()
        if golden == data:
            return
        lines = difflib.unified_diff(
            golden.decode().splitlines(), text.splitlines(), "golden", "now", lineterm="", n=2
        )
        diff = "\n".join(lines) or "(only line ends differ)"
        pytest.fail(f"{path} differs; run pytest --update-golden if it should\n{diff}", False)

    def owns(self, *names: str) -> None:
        """Say that these files belong to the test, where it may be skipped before it compares them."""
        self._owned.update(str(self.folder / name) for name in names)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares texts with golden files; see `Golden`."""
    owners = request.config.pluginmanager.get_plugin("tdsl-golden-owners")
    assert isinstance(owners, _GoldenOwners), "pytest_configure registers it"
    folder = request.path.parent / "golden"
    owners.folders.add(str(folder))
    return Golden(folder, request.config.getoption("--update-golden"), owners.owned)


class _GoldenOwners:
    """Fails a whole run that leaves a golden file unowned. With xdist, workers hand in what they saw."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.folders: set[str] = set()
        self.owned: set[str] = set()
        self.partial = False
        self.unowned: list[str] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.partial = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["tdsl_golden"] = (sorted(self.folders), sorted(self.owned), self.partial)
            return
        if exitstatus != pytest.ExitCode.OK or self.partial:
            return
        roots = [Path(argument) for argument in self.config.args if "::" not in argument]
        roots = [(self.config.invocation_params.dir / root).resolve() for root in roots]
        for folder in map(Path, sorted(self.folders)):
            # Who runs one file of a folder's tests has not run the owners of all its goldens.
            if any(root.is_dir() and folder.resolve().is_relative_to(root) for root in roots):
                files = (str(path) for path in sorted(folder.rglob("*")) if path.is_file())
                self.unowned += [path for path in files if path not in self.owned]
        if self.unowned:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        folders, owned, partial = getattr(node, "workeroutput", {}).get("tdsl_golden", ((), (), True))
        self.folders.update(folders)
        self.owned.update(owned)
        self.partial |= partial

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for path in self.unowned:
            terminalreporter.write_line(f"FAILED {path}: no test owns this golden file", red=True)
