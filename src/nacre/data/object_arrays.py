"""NumPy files that hold an array of Python objects, read without running what is in them.

Such a file is a pickle, and unpickling one calls whatever it names. Here its instructions are followed for numbers and
arrays only; a file with anything else in it is refused.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


class Refused(ValueError):
    """The file holds something else than numbers and arrays."""


MARK = object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING")
LITERALS = frozenset((*_NUMBERS, *_TEXTS, "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"))
NAMES = {
    "numpy.core.multiarray _reconstruct": "array", "numpy._core.multiarray _reconstruct": "array",
    "numpy.core.multiarray scalar": "scalar", "numpy._core.multiarray scalar": "scalar",
    "numpy ndarray": "ndarray", "numpy dtype": "dtype", "_codecs encode": "bytes",
}  # fmt: skip


class _Name(str):
    """One of the things that a file may name."""


class _Array:
    """An array before its content is known."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def fill(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if dtype.hasobject:
            flat = np.empty(len(content), object)
            flat[:] = [_plain(item) for item in content] if content else []
        else:
            flat = np.frombuffer(content, dtype)
        if flat.size != math.prod(shape):
            raise Refused("an array has another size than it says")
        self.value = flat.reshape(shape, order="F" if fortran else "C")


class _Type:
    """A dtype before its byte order is known."""

    def __init__(self, text: str):
        self.value = np.dtype(text)
        if self.value.kind not in "biufO":
            raise Refused(f"an array of type {self.value}")

    def fill(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


def load(file: Path) -> np.ndarray:
    """The array in a .npy file, memory-mapped where it is of numbers; or of objects that are numbers and arrays.
    ValueError for others, OSError for a file that cannot be read."""
    with file.open("rb") as handle:
        try:
            version = np.lib.format.read_magic(handle)
            is_first = version == (1, 0)
            read_header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
            _, _, dtype = read_header(handle)
        except OSError:
            raise
        except Exception as error:  # NumPy has many ways to say that a header is damaged
            raise Refused(f"the header of {file.name} is damaged") from error
        if dtype.hasobject:
            return _followed(handle.read())
    return np.load(file, mmap_mode="r")


def _followed(content: bytes) -> np.ndarray:
    """What the instructions of a pickle come to."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for code, argument, _ in pickletools.genops(content):
            if code.name == "STOP":
                break
            _follow(code.name, argument, stack, memo)
        value = _plain(stack.pop())
    except Refused:
        raise
    except Exception as error:  # whatever a damaged instruction comes to
        raise Refused("it breaks off, or is no array") from error
    if not isinstance(value, np.ndarray):
        raise Refused("it is no array")
    return value


def _follow(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in LITERALS:
        stack.append(argument)
    elif name in CONSTANTS:
        stack.append(CONSTANTS[name])
    elif name in ("PROTO", "FRAME"):
        pass
    elif name == "MARK":
        stack.append(MARK)
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        if name == "STACK_GLOBAL":
            argument = " ".join(reversed([stack.pop(), stack.pop()]))
        if argument not in NAMES:
            raise Refused(f"it names {argument}")
        stack.append(_Name(NAMES[argument]))
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in ("EMPTY_TUPLE", "EMPTY_LIST"):
        stack.append(() if name == "EMPTY_TUPLE" else [])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name in ("TUPLE", "LIST"):
        items = [*_since_mark(stack)]
        stack.append(tuple(items) if name == "TUPLE" else items)
    elif name == "APPEND":
        item = stack.pop()
        stack[-1].append(item)
    elif name == "APPENDS":
        items = [*_since_mark(stack)]
        stack[-1].extend(items)
    elif name == "REDUCE":
        arguments = stack.pop()
        stack.append(_made(stack.pop(), arguments))
    elif name == "BUILD":
        state = stack.pop()
        if not isinstance(stack[-1], _Array | _Type):
            raise Refused("it builds something else than an array")
        stack[-1].fill(tuple(_plain(item) if isinstance(item, _Type) else item for item in state))
    else:
        raise Refused(f"it has the instruction {name}")


def _made(name: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(name, _Name):
        raise Refused("it calls something else than an array")
    if name == "array":
        return _Array()
    if name == "dtype":
        return _Type(str(arguments[0]))
    if name == "bytes":
        return arguments[0].encode(arguments[1])
    if name == "scalar":
        return np.frombuffer(arguments[1], _plain(arguments[0]))[0]
    raise Refused(f"it calls {name}")


def _since_mark(stack: list[Any]) -> Iterator[Any]:
    at = len(stack) - 1 - next(i for i, item in enumerate(reversed(stack)) if item is MARK)
    items = stack[at + 1 :]
    del stack[at:]
    return iter(items)


def _plain(item: Any) -> Any:
    return item.value if isinstance(item, _Array | _Type) else item
