"""What definitions and types have in common: sorts, names, imports and aliases."""

from __future__ import annotations

from dataclasses import dataclass

from halfopen.component.reader import Reader
from halfopen.errors import InvalidComponent, Unsupported

#: The sorts of things that have index spaces of their own.
CORE_SORTS = {
    0x00: "core func",
    0x01: "core table",
    0x02: "core memory",
    0x03: "core global",
    0x04: "core tag",
    0x10: "core type",
    0x11: "core module",
    0x12: "core instance",
}
SORTS = {0x01: "func", 0x02: "value", 0x03: "type", 0x04: "component", 0x05: "instance"}


@dataclass(frozen=True)
class Alias:
    """Something of an instance, under a name."""

    sort: str
    instance: int
    name: str


@dataclass(frozen=True)
class OuterAlias:
    """Something of a component around this one."""

    sort: str
    count: int
    index: int


@dataclass(frozen=True)
class Import:
    """An import: a sort, and the index of its type."""

    name: str
    sort: str
    type: int
    #: Whether a type is a new resource, and not one that exists.
    is_resource: bool = False


def read_sort(reader: Reader) -> str:
    """Reads a sort."""
    code = reader.byte()
    known, code = (CORE_SORTS, reader.byte()) if code == 0 else (SORTS, code)
    if code not in known:
        raise InvalidComponent(f"there is no sort {code:#04x}")
    return known[code]


def read_external_name(reader: Reader) -> str:
    """Reads the name of an import or export."""
    kind = reader.byte()
    if kind > 1:
        raise Unsupported(f"a name has attributes of kind {kind}, which this host does not know")
    return reader.name()


def read_alias(reader: Reader) -> object:
    """Reads an alias."""
    sort, target = read_sort(reader), reader.byte()
    if target in (0, 1):
        return Alias(sort, reader.u32(), reader.name())
    if target == 2:
        return OuterAlias(sort, reader.u32(), reader.u32())
    raise InvalidComponent(f"there is no alias of kind {target}")


def read_external_type(reader: Reader, name: str) -> Import:
    """Reads the type of an import or export."""
    kind = reader.byte()
    if kind == 0x03:
        bound = reader.byte()
        if bound == 0x00:
            return Import(name, "type", reader.u32())
        if bound == 0x01:
            return Import(name, "type", 0, is_resource=True)
        raise InvalidComponent(f"there is no bound {bound:#04x} of a type")
    if kind == 0x00:
        if reader.byte() != 0x11:
            raise InvalidComponent("a core import is no module")
        return Import(name, "core module", reader.u32())
    if kind not in (0x01, 0x04, 0x05):
        raise Unsupported(f"`{name}` is of a kind that this host does not know")
    return Import(name, SORTS[kind], reader.u32())
