"""What a reference means, as text: changed by whatever it uses, and the same in every process."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULE = """
import functools
import enum

FACTOR = 2

def inner(x):
    return x * FACTOR

def scale(x):
    return inner(x)

def unrelated(x):
    return x + 1

class Base:
    step = 1
    def __call__(self, x):
        return x + self.step

class Adder(Base):
    def __init__(self):
        self.table = {"scale": scale}

class Mode(enum.Enum):
    FAST = 1

@functools.lru_cache
def cached(n):
    return n + 1
"""

PROGRAM = """
import functools, hashlib, math, sys
sys.path.insert(0, {folder!r})
import torch
import torch.nn.functional as F
import lib
from lib import Adder, Mode, cached
from tdsl.identity import meaning

adder, table, half = Adder(), {{"a": [lib.inner]}}, functools.partial(lib.scale)

def by_module(x):
    return lib.scale(x)

def by_object(x):
    return adder(x)

def by_container(x):
    return table["a"][0](x)

def by_partial(x):
    return half(x)

def by_enum(x):
    return x if Mode.FAST else cached(2)

def by_import(x):
    from lib import scale
    return scale(x)

def by_pytorch(x):
    return F.relu(torch.sigmoid(x)).to(torch.float32) * math.pi

def further_down(x):
    return defined_later(x)

later = list(meaning(further_down))

def defined_later(x):
    return x

for function in (by_module, by_object, by_container, by_partial, by_enum, by_import, by_pytorch):
    print(function.__name__, hashlib.sha256("".join(meaning(function)).encode()).hexdigest())
print("further_down", hashlib.sha256("".join(later).encode()).hexdigest())
"""


def digests(folder, *, module=MODULE, program=PROGRAM):
    (folder / "lib.py").write_text(module)
    file = folder / "program.py"
    file.write_text(program.format(folder=str(folder)))
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lib")


@pytest.fixture(scope="module")
def before(folder):
    return digests(folder)


def test_the_same_in_every_process(folder, before):
    assert digests(folder) == before


@pytest.mark.parametrize(
    "old, new, changed",
    [
        ("FACTOR = 2", "FACTOR = 3", {"by_module", "by_object", "by_container", "by_partial", "by_import"}),
        ("step = 1", "step = 2", {"by_object"}),
        ("x + self.step", "x - self.step", {"by_object"}),
        ("FAST = 1", "FAST = 2", {"by_enum"}),
        ("return n + 1", "return n + 2", {"by_enum"}),
        ("    return x + 1", "    return x + 2", set()),
    ],
)
def test_what_changes_it(folder, before, old, new, changed):
    assert MODULE.count(old) == 1
    after = digests(folder, module=MODULE.replace(old, new))
    assert {name for name in before if before[name] != after[name]} == changed


def test_what_is_defined_later_stands_for_its_file(tmp_path):
    before = digests(tmp_path)
    program = PROGRAM.replace("def defined_later(x):\n    return x", "def defined_later(x):\n    return -x")
    assert digests(tmp_path, program=program)["further_down"] != before["further_down"]


def test_what_cannot_be_known_is_of_one_process(tmp_path):
    program = PROGRAM.replace("return lib.scale(x)", "return lib.scale(x) if lock else x")
    program = program.replace("def by_module", "import threading\nlock = threading.Lock()\n\ndef by_module")
    first, second = digests(tmp_path, program=program), digests(tmp_path, program=program)
    assert {name for name in first if first[name] != second[name]} == {"by_module"}
