"""The types of values that cross the border of a component, in the canonical ABI.

Each type knows how its values lie in memory (`size`, `alignment`, `load`, `store`) and how they
are passed as core values (`flat`, `lift`, `lower`). In Python, a record or tuple is a tuple, a
variant or result is a pair of its case's name and its payload, an enum is its case's name, an
option is the value or `None`, flags are a set of names, `list<u8>` is `bytes`, and a handle is
the object that it stands for.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from halfopen.errors import Trapped

#: A core value: the types of the core specification are "i32", "i64", "f32" and "f64".
Core = int | float


class Border(Protocol):
    """What lifting and lowering need of an instance: its memory, allocator and handles."""

    def read(self, address: int, length: int) -> memoryview:
        """Returns a piece of memory, or traps."""

    def allocate(self, alignment: int, length: int) -> int:
        """Allocates memory in the instance, and returns its address."""

    def decode(self, data: memoryview) -> str:
        """Decodes a string."""

    def add_handle(self, thing: Any) -> int:
        """Makes a handle that the instance owns."""

    def handle(self, handle: int) -> Any:
        """Returns what a handle stands for, or traps."""

    def take_handle(self, handle: int) -> Any:
        """Removes a handle that the instance gives away, or traps."""


#: How many elements a list may have that a service passes, beside bytes.
MOST_ELEMENTS = 1 << 16


class ValueType(ABC):
    """A type of values."""

    flat: tuple[str, ...]
    size: int
    alignment: int

    @abstractmethod
    def load(self, border: Border, address: int) -> Any:
        """Reads a value from memory."""

    @abstractmethod
    def store(self, border: Border, value: Any, address: int) -> None:
        """Writes a value to memory."""

    @abstractmethod
    def lift(self, border: Border, core: Iterator[Core]) -> Any:
        """Makes a value of core values."""

    @abstractmethod
    def lower(self, border: Border, value: Any) -> list[Core]:
        """Makes core values of a value."""


def aligned(address: int, alignment: int) -> int:
    """Returns the first aligned address that is not below this one."""
    return -(-address // alignment) * alignment


def _check_alignment(address: int, alignment: int) -> None:
    if address % alignment:
        raise Trapped("the service passed a pointer that is not aligned")


class Number(ValueType):
    """An integer or a float: its format in `struct`, and the core type that carries it."""

    def __init__(self, format: str, core: str) -> None:
        self._struct = struct.Struct("<" + format)
        self._is_float = core.startswith("f")
        self.flat = (core,)
        self.size = self.alignment = self._struct.size
        self._bits = 8 * self.size
        self._signed = format.islower()

    def load(self, border: Border, address: int) -> Any:
        _check_alignment(address, self.alignment)
        return self._struct.unpack(border.read(address, self.size))[0]

    def store(self, border: Border, value: Any, address: int) -> None:
        self._struct.pack_into(border.read(address, self.size), 0, value)

    def lift(self, border: Border, core: Iterator[Core]) -> Any:
        value = next(core)
        if self._is_float:
            return value
        value = int(value) & ((1 << self._bits) - 1)
        if self._signed and value >> (self._bits - 1):
            value -= 1 << self._bits
        return value

    def lower(self, border: Border, value: Any) -> list[Core]:
        return [value]


class Bool(ValueType):
    """True or false."""

    flat, size, alignment = ("i32",), 1, 1

    def load(self, border: Border, address: int) -> bool:
        return border.read(address, 1)[0] != 0

    def store(self, border: Border, value: bool, address: int) -> None:
        border.read(address, 1)[0] = value

    def lift(self, border: Border, core: Iterator[Core]) -> bool:
        return next(core) != 0

    def lower(self, border: Border, value: bool) -> list[Core]:
        return [int(value)]


class Char(ValueType):
    """A Unicode scalar value."""

    flat, size, alignment = ("i32",), 4, 4
    _number = Number("I", "i32")

    def load(self, border: Border, address: int) -> str:
        return self._of(self._number.load(border, address))

    def store(self, border: Border, value: str, address: int) -> None:
        self._number.store(border, ord(value), address)

    def lift(self, border: Border, core: Iterator[Core]) -> str:
        return self._of(self._number.lift(border, core))

    def lower(self, border: Border, value: str) -> list[Core]:
        return [ord(value)]

    @staticmethod
    def _of(code: int) -> str:
        if code >= 0x110000 or 0xD800 <= code < 0xE000:
            raise Trapped("the service passed what is no character")
        return chr(code)


class _Pointed(ValueType):
    """A value in memory of its own, passed as address and length."""

    flat, size, alignment = ("i32", "i32"), 8, 4
    _pair = struct.Struct("<II")

    def load(self, border: Border, address: int) -> Any:
        _check_alignment(address, 4)
        return self._lift(border, *self._pair.unpack(border.read(address, 8)))

    def store(self, border: Border, value: Any, address: int) -> None:
        pair = self._lower(border, value)
        self._pair.pack_into(border.read(address, 8), 0, *pair)

    def lift(self, border: Border, core: Iterator[Core]) -> Any:
        address, length = next(core), next(core)
        return self._lift(border, int(address) & 0xFFFFFFFF, int(length) & 0xFFFFFFFF)

    def lower(self, border: Border, value: Any) -> list[Core]:
        return list(self._lower(border, value))

    @abstractmethod
    def _lift(self, border: Border, address: int, length: int) -> Any: ...

    @abstractmethod
    def _lower(self, border: Border, value: Any) -> tuple[int, int]: ...


class String(_Pointed):
    """Text."""

    def _lift(self, border: Border, address: int, length: int) -> str:
        return border.decode(border.read(address, length))

    def _lower(self, border: Border, value: str) -> tuple[int, int]:
        return _lower_bytes(border, value.encode())


def _lower_bytes(border: Border, data: bytes) -> tuple[int, int]:
    address = border.allocate(1, len(data))
    border.read(address, len(data))[:] = data
    return address, len(data)


class Bytes(_Pointed):
    """`list<u8>`, in one piece."""

    def _lift(self, border: Border, address: int, length: int) -> bytes:
        return bytes(border.read(address, length))

    def _lower(self, border: Border, value: bytes) -> tuple[int, int]:
        return _lower_bytes(border, value)


class ListOf(_Pointed):
    """Elements, one after the other."""

    def __init__(self, element: ValueType) -> None:
        self._element = element

    def _lift(self, border: Border, address: int, length: int) -> list[Any]:
        element = self._element
        if length > MOST_ELEMENTS:
            raise Trapped(f"the service passed a list of {length} elements")
        _check_alignment(address, element.alignment)
        border.read(address, element.size * length)
        return [element.load(border, address + element.size * at) for at in range(length)]

    def _lower(self, border: Border, value: Sequence[Any]) -> tuple[int, int]:
        element = self._element
        address = border.allocate(element.alignment, element.size * len(value))
        for at, one in enumerate(value):
            element.store(border, one, address + element.size * at)
        return address, len(value)


class Fields(ValueType):
    """A record or a tuple."""

    def __init__(self, types: Sequence[ValueType]) -> None:
        self._fields: list[tuple[int, ValueType]] = []
        at, self.alignment = 0, 1
        for one in types:
            at = aligned(at, one.alignment)
            self._fields.append((at, one))
            at += one.size
            self.alignment = max(self.alignment, one.alignment)
        self.size = aligned(at, self.alignment)
        self.flat = tuple(core for one in types for core in one.flat)

    def load(self, border: Border, address: int) -> tuple[Any, ...]:
        _check_alignment(address, self.alignment)
        return tuple(one.load(border, address + at) for at, one in self._fields)

    def store(self, border: Border, value: Sequence[Any], address: int) -> None:
        for (at, one), part in zip(self._fields, value, strict=True):
            one.store(border, part, address + at)

    def lift(self, border: Border, core: Iterator[Core]) -> tuple[Any, ...]:
        return tuple(one.lift(border, core) for _, one in self._fields)

    def lower(self, border: Border, value: Sequence[Any]) -> list[Core]:
        parts = zip(self._fields, value, strict=True)
        return [core for (_, one), part in parts for core in one.lower(border, part)]


def _number_of(count: int, per_size: tuple[int, int, int] = (1 << 8, 1 << 16, 1 << 32)) -> Number:
    """Returns the smallest type that tells this many cases apart."""
    return Number("BHI"[next(at for at, most in enumerate(per_size) if count <= most)], "i32")


def _joined(one: str, other: str) -> str:
    if one == other:
        return one
    return "i32" if {one, other} == {"i32", "f32"} else "i64"


class Cases(ValueType):
    """A variant, and what is one in disguise."""

    def __init__(self, cases: Sequence[tuple[str, ValueType | None]]) -> None:
        self._cases = cases
        self._index = {name: at for at, (name, _) in enumerate(cases)}
        self._tag = _number_of(len(cases))
        payloads = [payload for _, payload in cases if payload is not None]
        self.alignment = max([self._tag.size, *(one.alignment for one in payloads)])
        self._at = aligned(self._tag.size, max([1, *(one.alignment for one in payloads)]))
        longest = max([0, *(one.size for one in payloads)])
        self.size = aligned(self._at + longest, self.alignment)
        flat: list[str] = []
        for one in payloads:
            shared = [_joined(a, b) for a, b in zip(flat, one.flat)]
            flat = shared + flat[len(shared) :] + list(one.flat[len(shared) :])
        self.flat = ("i32", *flat)

    def load(self, border: Border, address: int) -> Any:
        _check_alignment(address, self.alignment)
        name, payload = self._case(self._tag.load(border, address))
        value = None if payload is None else payload.load(border, address + self._at)
        return self.made(name, value)

    def store(self, border: Border, value: Any, address: int) -> None:
        name, part = self.parted(value)
        at = self._index[name]
        self._tag.store(border, at, address)
        payload = self._cases[at][1]
        if payload is not None:
            payload.store(border, part, address + self._at)

    def lift(self, border: Border, core: Iterator[Core]) -> Any:
        name, payload = self._case(int(next(core)) & 0xFFFFFFFF)
        rest = [next(core) for _ in self.flat[1:]]
        if payload is None:
            return self.made(name, None)
        parts = zip(rest, self.flat[1:], payload.flat)
        return self.made(name, payload.lift(border, iter([_narrow(*part) for part in parts])))

    def lower(self, border: Border, value: Any) -> list[Core]:
        name, part = self.parted(value)
        at = self._index[name]
        payload = self._cases[at][1]
        core: list[Core] = [at]
        if payload is not None:
            lowered = zip(payload.lower(border, part), payload.flat, self.flat[1:])
            core += [_widen(*one) for one in lowered]
        return core + [0] * (len(self.flat) - len(core))

    def _case(self, tag: int) -> tuple[str, ValueType | None]:
        if tag >= len(self._cases):
            raise Trapped("the service passed a case that does not exist")
        return self._cases[tag]

    def made(self, name: str, payload: Any) -> Any:
        """Makes the value of its case and payload."""
        return name, payload

    def parted(self, value: Any) -> tuple[str, Any]:
        """Returns the case and the payload of a value."""
        name, payload = value
        return name, payload


_PACKED = {
    "i32": struct.Struct("<I"),
    "i64": struct.Struct("<Q"),
    "f32": struct.Struct("<f"),
    "f64": struct.Struct("<d"),
}


def _bits(value: Core, core: str) -> bytes:
    if core == "i32":
        value = int(value) & 0xFFFFFFFF
    elif core == "i64":
        value = int(value) & 0xFFFFFFFFFFFFFFFF
    return _PACKED[core].pack(value).ljust(8, b"\0")


def _narrow(value: Core, have: str, want: str) -> Core:
    return value if have == want else _PACKED[want].unpack_from(_bits(value, have))[0]


def _widen(value: Core, have: str, want: str) -> Core:
    return value if have == want else _PACKED[want].unpack_from(_bits(value, have))[0]


class Labels(Cases):
    """An enum."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__([(label, None) for label in labels])

    def made(self, name: str, payload: Any) -> str:
        return name

    def parted(self, value: Any) -> tuple[str, Any]:
        return value, None


class Optional(Cases):
    """An option."""

    def __init__(self, payload: ValueType) -> None:
        super().__init__([("none", None), ("some", payload)])

    def made(self, name: str, payload: Any) -> Any:
        return payload

    def parted(self, value: Any) -> tuple[str, Any]:
        return ("none", None) if value is None else ("some", value)


class FlagSet(ValueType):
    """Flags, at most 32."""

    flat = ("i32",)

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._number = _number_of(len(labels), (8, 16, 32))
        self.size = self.alignment = self._number.size

    def load(self, border: Border, address: int) -> set[str]:
        return self._of(self._number.load(border, address))

    def store(self, border: Border, value: set[str], address: int) -> None:
        self._number.store(border, self._bits(value), address)

    def lift(self, border: Border, core: Iterator[Core]) -> set[str]:
        return self._of(int(next(core)))

    def lower(self, border: Border, value: set[str]) -> list[Core]:
        return [self._bits(value)]

    def _of(self, bits: int) -> set[str]:
        return {label for at, label in enumerate(self._labels) if bits >> at & 1}

    def _bits(self, value: set[str]) -> int:
        return sum(1 << at for at, label in enumerate(self._labels) if label in value)


class HandleOf(ValueType):
    """A handle of a resource that the host has."""

    flat, size, alignment = ("i32",), 4, 4
    _number = Number("I", "i32")

    def __init__(self, owned: bool) -> None:
        self._owned = owned

    def load(self, border: Border, address: int) -> Any:
        return self._of(border, self._number.load(border, address))

    def store(self, border: Border, value: Any, address: int) -> None:
        self._number.store(border, border.add_handle(value), address)

    def lift(self, border: Border, core: Iterator[Core]) -> Any:
        return self._of(border, self._number.lift(border, core))

    def lower(self, border: Border, value: Any) -> list[Core]:
        return [border.add_handle(value)]

    def _of(self, border: Border, handle: int) -> Any:
        return border.take_handle(handle) if self._owned else border.handle(handle)


#: The primitive types, by their codes as negative numbers.
PRIMITIVES: dict[int, ValueType] = {
    -0x01: Bool(),
    -0x02: Number("b", "i32"),
    -0x03: Number("B", "i32"),
    -0x04: Number("h", "i32"),
    -0x05: Number("H", "i32"),
    -0x06: Number("i", "i32"),
    -0x07: Number("I", "i32"),
    -0x08: Number("q", "i64"),
    -0x09: Number("Q", "i64"),
    -0x0A: Number("f", "f32"),
    -0x0B: Number("d", "f64"),
    -0x0C: Char(),
    -0x0D: String(),
}
U8 = PRIMITIVES[-0x03]
