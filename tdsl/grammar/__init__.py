"""Reading: `read` a file, `parse` its text."""

from tdsl.grammar.parser import parse, parse_partly
from tdsl.grammar.reader import read

__all__ = ["parse", "parse_partly", "read"]
