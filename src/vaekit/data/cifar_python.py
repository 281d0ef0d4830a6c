"""The batches of CIFAR-10's python archive, which are pickles: read here as data, by a machine that can do nothing else.

Of the hundred instructions of a pickle, those that make dictionaries, lists, tuples, texts and numbers are followed, and one array
of bytes is put together from its parts as they are written in these files. No name in a file is ever looked up, imported or
called; an instruction or a name beyond these few is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_LIMIT = 64 * 2**20  # bytes of a file; a batch has 31 million
_RECONSTRUCT, _NDARRAY, _DTYPE = "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"
_NAMES = frozenset({_RECONSTRUCT, _NDARRAY, _DTYPE})


class RefusedError(ValueError):
    """A file holds something else than the data of a CIFAR batch."""


def read_batch(content: bytes) -> dict[str, Any]:
    """The dictionary in a batch file: texts, numbers, lists of them, and arrays of bytes.

    Raises:
        RefusedError: If the content is damaged, or goes beyond what these files hold.
    """
    if len(content) > _LIMIT:
        raise RefusedError(f"it has {len(content):,} bytes, expected at most {_LIMIT:,}")
    try:
        value = _Machine(content).run()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise error if isinstance(error, RefusedError) else RefusedError("it is damaged") from error
    if not isinstance(value, dict):
        raise RefusedError(f"it holds a {type(value).__name__}, expected a dictionary")
    return {key: item.values if isinstance(item, _Array) else item for key, item in value.items()}


@dataclass(frozen=True)
class _Name:
    """A name in the file: never more than its letters."""

    text: str


@dataclass
class _Bytes8:
    """The type of an array: bytes."""


@dataclass
class _Array:
    """An array of bytes, empty until its state is read."""

    values: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))


_MARK = object()


class _Machine:
    """A stack of values and the few instructions that build them."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            if code not in _INSTRUCTIONS:
                raise RefusedError(f"it has the instruction {code!r}, which no batch of CIFAR-10 has")
            _INSTRUCTIONS[code](self)

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.content) - self.at:
            raise RefusedError("it ends too early")
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, form: str) -> int:
        return int(struct.unpack("<" + form, self.take(struct.calcsize(form)))[0])

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def text(self, size: int) -> None:
        # Python 2 wrote texts and bytes alike; latin-1 keeps every byte
        self.push(self.take(size).decode("latin-1"))

    def words(self, size: int) -> None:
        self.push(self.take(size).decode("utf-8"))

    def name(self) -> None:
        end = self.content.index(b"\n", self.content.index(b"\n", self.at) + 1)
        text = self.take(end + 1 - self.at).decode("ascii").replace("\n", " ").strip()
        if text not in _NAMES:
            raise RefusedError(f"it names {text!r}, which no batch of CIFAR-10 does")
        self.push(_Name(text))

    def since_mark(self) -> list[Any]:
        place = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def tuple_of(self, size: int) -> None:
        if len(self.stack) < size:
            raise RefusedError("it is damaged")
        items = tuple(self.stack[-size:])
        del self.stack[-size:]
        self.push(items)

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise RefusedError("it appends to something else than a list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        # only texts for keys: a tuple of tuples of tuples, each named twice, would take for ever to hash
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, str) for key in items[::2]):
            raise RefusedError("it sets items of something else than a dictionary with texts for keys")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def make(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if name == _Name(_RECONSTRUCT) and arguments[0] == _Name(_NDARRAY):
            self.push(_Array())
        elif name == _Name(_DTYPE) and arguments[0] == "u1":
            self.push(_Bytes8())
        else:
            raise RefusedError("it makes something else than an array of bytes")

    def fill(self) -> None:
        state, value = self.stack.pop(), self.stack[-1]
        if isinstance(value, _Bytes8):
            return  # its state tells the order of bytes, and a byte has none
        if not isinstance(value, _Array):
            raise RefusedError("it fills something else than an array")
        _, shape, kind, by_columns, text = state
        if not isinstance(kind, _Bytes8):
            raise RefusedError("it has an array of something else than bytes")
        flat = np.frombuffer(text.encode("latin-1"), np.uint8)
        value.values = flat.reshape(shape, order="F" if by_columns else "C")


def _last(machine: _Machine) -> Any:
    return machine.stack[-1]


# the documentation of each stands in Python's pickletools
_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.number("B"),  # version of the protocol
    b"(": lambda m: m.push(_MARK),
    b"}": lambda m: m.push({}),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("H")),
    b"J": lambda m: m.push(m.number("i")),
    b"U": lambda m: m.text(m.number("B")),
    b"T": lambda m: m.text(m.number("i")),
    b"X": lambda m: m.words(m.number("I")),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"e": lambda m: m.extend(m.since_mark()),
    b"a": lambda m: m.extend([m.stack.pop()]),
    b"u": lambda m: m.update(m.since_mark()),
    b"s": lambda m: m.update([m.stack.pop(-2), m.stack.pop()]),
    b"q": lambda m: m.memo.update({m.number("B"): _last(m)}),
    b"r": lambda m: m.memo.update({m.number("I"): _last(m)}),
    b"h": lambda m: m.push(m.memo[m.number("B")]),
    b"j": lambda m: m.push(m.memo[m.number("I")]),
    b"c": lambda m: m.name(),
    b"R": lambda m: m.make(),
    b"b": lambda m: m.fill(),
}
