"""Wrong templates: tests/errors/*.tdsl, named after the code that they are about.

Each line that is wrong ends with `# error[code]: text`, once for each mistake that is reported there, and `text` is a
part of the message; nothing else may be reported. For what is too long to be written out, `<<TEXT*N>>` stands for
TEXT N times.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tdsl import grammar
from tdsl.diagnostics import Code, TdslError
from tdsl.pipeline import check_text

FOLDER = Path(__file__).parent / "errors"
FILES = sorted(FOLDER.glob("*.tdsl"))
REPEATED = re.compile(rb"<<(.+?)\*(\d+)>>")
MARK = re.compile(r"# error\[([\w-]+)\]: (.+?)(?= # error\[|$)")

# Codes that no file can show, and the tests that do.
ELSEWHERE = {
    Code.UNREADABLE_FILE: "grammar/test_reader.py",
    Code.BAD_ARGUMENT: "inductor",
    Code.MISSING_PACKAGE: "test_wheel.py",
}


def expected(text: str) -> list[tuple[int, str, str]]:
    """Line, code and part of the message of each mark."""
    return [
        (number, mark[1], mark[2])
        for number, line in enumerate(text.split("\n"), start=1)
        for mark in MARK.finditer(line)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_mistake_is_reported_once(path: Path, tmp_path: Path) -> None:
    data = REPEATED.sub(lambda found: found[1] * int(found[2]), path.read_bytes())
    copy = tmp_path / path.name
    copy.write_bytes(data)
    with pytest.raises(TdslError) as caught:
        check_text(grammar.read(copy))
    reported = [
        (each.span.source.position(each.span.start)[0], each.code.value, each.message)
        for each in caught.value.diagnostics
    ]
    marks = expected(path.read_text(encoding="utf-8", errors="replace"))
    for mark in marks:
        line, code, text = mark
        found = next((one for one in reported if one[:2] == (line, code) and text in one[2]), None)
        assert found is not None, f"line {line} is to be {code}: {text}\n{caught.value}"
        reported.remove(found)
    assert not reported, f"reported, and not expected: {reported}\n{caught.value}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_named_after_a_code_in_them(path: Path) -> None:
    codes = {code for _, code, _ in expected(path.read_text(encoding="utf-8", errors="replace"))}
    assert any(path.stem == code or path.stem.startswith(f"{code}-") for code in codes)


def test_every_code_has_a_file() -> None:
    stems = [f"{path.stem}-" for path in FILES]
    shown = {code for code in Code if any(stem.startswith(f"{code.value}-") for stem in stems)}
    assert set(Code) - shown == ELSEWHERE.keys()
