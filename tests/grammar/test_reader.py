"""What is no template file: refused with a diagnostic that says where and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.grammar import parse, read
from tdsl.source import Source

TEXT = "template f(x: f32[M]):\n    pass\n"


def refusal(path: Path) -> Diagnostic:
    with pytest.raises(TdslError) as caught:
        read(path)
    (diagnostic,) = caught.value.diagnostics
    assert str(path) in str(diagnostic)
    return diagnostic


def write(folder: Path, data: bytes) -> Path:
    path = folder / "file.tdsl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data", [TEXT, "\ufeff" + TEXT, TEXT.replace("\n", "\r\n"), TEXT.replace("\n", "\r")]
)
def test_reads_utf8(tmp_path: Path, data: str) -> None:
    source = read(write(tmp_path, data.encode()))
    assert source.text == TEXT
    assert source.name == str(tmp_path / "file.tdsl")


@pytest.mark.parametrize("name", ["missing.tdsl", "nowhere/missing.tdsl", "file.tdsl/inside", "", "nul\0"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    write(tmp_path, b"")
    with pytest.raises(TdslError) as caught:
        read(tmp_path / name)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.UNREADABLE_FILE
    assert str(diagnostic).startswith("error[unreadable-file]: the file cannot be read: ")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-16-be"])
def test_another_encoding(tmp_path: Path, encoding: str) -> None:
    assert refusal(write(tmp_path, TEXT.encode(encoding))).code is Code.ENCODING


def test_a_byte_that_is_no_text(tmp_path: Path) -> None:
    diagnostic = refusal(write(tmp_path, b"\xef\xbb\xbf# one\r\n# \xc3\xa9 \xff\r\n"))
    assert diagnostic.code is Code.ENCODING
    assert "0xff" in diagnostic.message
    assert str(diagnostic.span).endswith(":2:5")


def test_a_nul_byte(tmp_path: Path) -> None:
    diagnostic = refusal(write(tmp_path, b"# one\n#\0\n"))
    assert diagnostic.code is Code.ENCODING
    assert str(diagnostic.span).endswith(":2:2")
    with pytest.raises(TdslError, match="NUL"):
        parse(Source("<string>", "\0"))


@pytest.mark.parametrize("size", [1_000_001, 20_000_000])
def test_a_large_file(tmp_path: Path, size: int) -> None:
    diagnostic = refusal(write(tmp_path, b"#" * size))
    assert diagnostic.code is Code.TOO_LARGE
    assert f"{size:,}" in diagnostic.message and "1,000,000" in diagnostic.message
    with pytest.raises(TdslError, match="1,000,000"):
        parse(Source("<string>", "#" * size))


def test_the_largest_file(tmp_path: Path) -> None:
    line = b"#" * 99 + b"\n"
    assert len(read(write(tmp_path, line * 10_000)).text) == 1_000_000
