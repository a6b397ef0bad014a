"""Reads the elements of WebAssembly's binary format (core specification, chapter 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from halfopen.errors import InvalidComponent

T = TypeVar("T")


class Reader:
    """A position in a piece of a binary. Every method raises `InvalidComponent` at its end."""

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self.position = start
        self._end = len(data) if end is None else end

    @property
    def at_end(self) -> bool:
        """Whether everything has been read."""
        return self.position >= self._end

    def byte(self) -> int:
        """Reads one byte."""
        if self.position >= self._end:
            raise InvalidComponent("it ends too early")
        value = self._data[self.position]
        self.position += 1
        return value

    def peek(self) -> int:
        """Returns the next byte, and stays before it."""
        value = self.byte()
        self.position -= 1
        return value

    def take(self, length: int) -> bytes:
        """Reads this many bytes."""
        start = self.position
        if length > self._end - start:
            raise InvalidComponent("it ends too early")
        self.position = start + length
        return self._data[start : self.position]

    def part(self) -> Reader:
        """Reads a length, and returns a reader of that many bytes, which it skips."""
        length = self.u32()
        start = self.position
        if length > self._end - start:
            raise InvalidComponent("it ends too early")
        self.position = start + length
        return Reader(self._data, start, self.position)

    def rest(self) -> bytes:
        """Reads everything up to the end."""
        return self.take(self._end - self.position)

    def u32(self) -> int:
        """Reads an unsigned number of at most 32 bits, in LEB128."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                raise InvalidComponent("a number is too long")
        if value >= 1 << 32:
            raise InvalidComponent("a number is too large")
        return value

    def s33(self) -> int:
        """Reads a signed number of at most 33 bits, in LEB128."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 28:
                raise InvalidComponent("a number is too long")
        return value - (1 << shift) if byte & 0x40 else value

    def name(self) -> str:
        """Reads a name, in UTF-8 behind its length."""
        try:
            return self.take(self.u32()).decode()
        except UnicodeDecodeError:
            raise InvalidComponent("a name is not in UTF-8") from None

    def vector(self, element: Callable[[], T]) -> list[T]:
        """Reads a count, and that many elements."""
        return [element() for _ in range(self.u32())]

    def optional(self, element: Callable[[], T]) -> T | None:
        """Reads an element behind a byte that says whether there is one."""
        flag = self.byte()
        if flag > 1:
            raise InvalidComponent(f"byte {flag:#04x} is neither 0 nor 1")
        return element() if flag else None
