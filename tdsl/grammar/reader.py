"""A file to text: UTF-8, with '\\n' at the end of each line.

    b'\\xef\\xbb\\xbflet X = 1\\r\\n'   ->   'let X = 1\\n'

What the text means is left to the parser.
"""

from __future__ import annotations

import os
from pathlib import Path

from tdsl.diagnostics import Code, Diagnostic, TdslError
from tdsl.source import Source, Span

MAX_BYTES = 1_000_000

_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read(path: str | os.PathLike[str]) -> Source:
    """The text of a template file. Raises `TdslError` if it cannot be read, is no UTF-8 text, or is too large."""
    name = os.fspath(path)
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(0, "it is a directory")
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise _error(
            Code.UNREADABLE_FILE, Source(name, ""), 0, f"the file cannot be read: {reason}"
        ) from None
    if len(data) > MAX_BYTES:
        raise _too_large(Source(name, ""), max(size, len(data)))
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            message = f"the file is {encoding}; templates are UTF-8"
            raise _error(Code.ENCODING, Source(name, ""), 0, message, "save it as UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        whole = _unify(Source(name, data.decode("utf-8", errors="replace")))
        before = _unify(Source(name, data[: error.start].decode("utf-8")))
        message = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise _error(Code.ENCODING, whole, len(before.text), message, "save the file as UTF-8") from None
    return normalize(Source(name, text))


def normalize(source: Source) -> Source:
    """The source with '\\n' for line ends and no byte order mark. Raises `TdslError` if it is too large or no text."""
    if len(source.text) > MAX_BYTES:
        raise _too_large(Source(source.name, ""), len(source.text.encode("utf-8", "surrogatepass")))
    source = _unify(source)
    at = source.text.find("\0")
    if at >= 0:
        raise _error(Code.ENCODING, source, at, "the file has a NUL byte: it is no text", "save it as UTF-8")
    return source


def _unify(source: Source) -> Source:
    text = source.text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return source if text == source.text else Source(source.name, text)


def _too_large(source: Source, size: int) -> TdslError:
    message = f"the file has {size:,} bytes; a template file may have {MAX_BYTES:,}"
    return _error(Code.TOO_LARGE, source, 0, message)


def _error(code: Code, source: Source, at: int, message: str, help: str | None = None) -> TdslError:
    span = Span(source, at, min(at + 1, len(source.text)))
    return TdslError([Diagnostic(code=code, message=message, span=span, help=help)])
