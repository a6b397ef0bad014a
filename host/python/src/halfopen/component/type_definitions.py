"""The types of a component, as its binary defines them: by indices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from halfopen.component.externals import (
    Import,
    read_alias,
    read_external_name,
    read_external_type,
)
from halfopen.component.reader import Reader
from halfopen.errors import InvalidComponent, Unsupported

#: How deep types may be nested.
DEEPEST = 64

#: A type where it is used: the index of a definition, or the code of a primitive as a
#: negative number.
ValueType = int


@dataclass(frozen=True)
class Primitive:
    """A type without parts."""

    code: ValueType


@dataclass(frozen=True)
class Record:
    """Fields in order; those of a tuple have numbers."""

    fields: list[tuple[str, ValueType]]


@dataclass(frozen=True)
class Variant:
    """Cases, which may have a payload."""

    cases: list[tuple[str, ValueType | None]]


@dataclass(frozen=True)
class Enum:
    """Cases without a payload."""

    labels: list[str]


@dataclass(frozen=True)
class Flags:
    """Names, each of which is there or not."""

    labels: list[str]


@dataclass(frozen=True)
class List:
    """Elements of one type, as many as there are."""

    element: ValueType


@dataclass(frozen=True)
class Option:
    """A value, or none."""

    payload: ValueType


@dataclass(frozen=True)
class Result:
    """Success or failure, each of which may have a payload."""

    ok: ValueType | None
    error: ValueType | None


@dataclass(frozen=True)
class Handle:
    """A handle of a resource, which the receiver owns or borrows."""

    resource: int
    owned: bool


@dataclass(frozen=True)
class Function:
    """A function."""

    parameters: list[tuple[str, ValueType]]
    result: ValueType | None


@dataclass(frozen=True)
class Resource:
    """A resource that the component defines itself."""


@dataclass(frozen=True)
class AsyncType:
    """A type or function that a synchronous service has no use for."""

    what: str


@dataclass(frozen=True)
class Declarations:
    """The type of an instance or a component: what it consists of, in order."""

    declarations: list[object]
    of_component: bool


TypeDefinition = (
    Primitive
    | Record
    | Variant
    | Enum
    | Flags
    | List
    | Option
    | Result
    | Handle
    | Function
    | Resource
    | AsyncType
    | Declarations
)


@dataclass(frozen=True)
class TypeDeclaration:
    """A type that is defined within the type of an instance."""

    definition: TypeDefinition


@dataclass(frozen=True)
class ExportDeclaration:
    """What an instance of this type exports."""

    external: Import


@dataclass(frozen=True)
class ImportDeclaration:
    """What a component of this type imports."""

    external: Import


#: The codes of primitive types, from `error-context` to `bool`.
PRIMITIVES = {0x64, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x7B, 0x7C, 0x7D, 0x7E, 0x7F}


def _value_type(reader: Reader) -> ValueType:
    value = reader.s33()
    if value < 0 and value + 0x80 not in PRIMITIVES:
        raise Unsupported(
            f"it uses a type of code {value + 0x80:#04x}, which this host does not know"
        )
    return value


def _labelled(reader: Reader) -> tuple[str, ValueType]:
    return reader.name(), _value_type(reader)


def _case(reader: Reader) -> tuple[str, ValueType | None]:
    name = reader.name()
    payload = reader.optional(lambda: _value_type(reader))
    if reader.byte() != 0:
        raise InvalidComponent("a case refines another one")
    return name, payload


def _function(reader: Reader) -> Function:
    parameters = reader.vector(lambda: _labelled(reader))
    kind = reader.byte()
    if kind == 0:
        return Function(parameters, _value_type(reader))
    if kind == 1 and reader.byte() == 0:
        return Function(parameters, None)
    raise Unsupported("a function has named results, which this host does not know")


def _tuple(reader: Reader) -> Record:
    elements = reader.vector(lambda: _value_type(reader))
    return Record([(str(number), element) for number, element in enumerate(elements)])


def _optional_value(reader: Reader) -> ValueType | None:
    return reader.optional(lambda: _value_type(reader))


def _resource(reader: Reader) -> Resource:
    if reader.byte() != 0x7F:
        raise InvalidComponent("a resource is represented by something else than i32")
    reader.optional(reader.u32)
    return Resource()


def _async(reader: Reader, what: str) -> AsyncType:
    _optional_value(reader)
    return AsyncType(what)


_VALUES: dict[int, Callable[[Reader], TypeDefinition]] = {
    0x72: lambda reader: Record(reader.vector(lambda: _labelled(reader))),
    0x71: lambda reader: Variant(reader.vector(lambda: _case(reader))),
    0x70: lambda reader: List(_value_type(reader)),
    0x6F: _tuple,
    0x6E: lambda reader: Flags(reader.vector(reader.name)),
    0x6D: lambda reader: Enum(reader.vector(reader.name)),
    0x6B: lambda reader: Option(_value_type(reader)),
    0x6A: lambda reader: Result(_optional_value(reader), _optional_value(reader)),
    0x69: lambda reader: Handle(reader.u32(), owned=True),
    0x68: lambda reader: Handle(reader.u32(), owned=False),
    0x66: lambda reader: _async(reader, "stream"),
    0x65: lambda reader: _async(reader, "future"),
    0x40: _function,
    0x3F: _resource,
}


def read_type(reader: Reader, depth: int) -> TypeDefinition:
    """Reads the definition of a type."""
    code = reader.byte()
    if code in (0x41, 0x42):
        if depth > DEEPEST:
            raise InvalidComponent("types are nested too deep")
        declarations = reader.vector(lambda: read_declaration(reader, depth + 1))
        return Declarations(declarations, of_component=code == 0x41)
    if code in PRIMITIVES:
        return Primitive(code - 0x80)
    if code == 0x43:
        _function(reader)
        return AsyncType("async func")
    if code not in _VALUES:
        raise Unsupported(f"it defines a type of code {code:#04x}, which this host does not know")
    return _VALUES[code](reader)


def read_declaration(reader: Reader, depth: int) -> object:
    """Reads one declaration of the type of an instance or a component."""
    kind = reader.byte()
    if kind == 0x01:
        return TypeDeclaration(read_type(reader, depth))
    if kind == 0x02:
        return read_alias(reader)
    if kind == 0x03:
        return ImportDeclaration(read_external_type(reader, read_external_name(reader)))
    if kind == 0x04:
        return ExportDeclaration(read_external_type(reader, read_external_name(reader)))
    raise Unsupported(f"it has a declaration of kind {kind:#04x}, which this host does not know")
