"""The definitions of a component, in the order of its binary.

The format is the component model's "Binary Format Explainer". Only indices are read here;
`linking` finds out what they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from halfopen.component.externals import (
    CORE_SORTS,
    read_alias,
    read_external_name,
    read_external_type,
    read_sort,
)
from halfopen.component.reader import Reader
from halfopen.component.type_definitions import TypeDefinition, read_type
from halfopen.errors import InvalidComponent, Unsupported

MODULE_MAGIC = b"\0asm\1\0\0\0"
COMPONENT_MAGIC = b"\0asm\x0d\0\1\0"

#: How deep components may be nested.
DEEPEST = 32


class Item(NamedTuple):
    """A thing by its sort and its index."""

    sort: str
    at: int


@dataclass(frozen=True)
class CoreModule:
    """A core module, embedded."""

    code: bytes


@dataclass(frozen=True)
class CoreInstantiation:
    """An instance of a core module, whose imports come from these core instances."""

    module: int
    arguments: dict[str, int]


@dataclass(frozen=True)
class CoreBundle:
    """A core instance that consists of things that exist already."""

    items: dict[str, Item]


@dataclass(frozen=True)
class CoreType:
    """A core type, which nothing here needs."""


@dataclass(frozen=True)
class Instantiation:
    """An instance of a component, whose imports are these."""

    component: int
    arguments: dict[str, Item]


@dataclass(frozen=True)
class Bundle:
    """An instance that consists of things that exist already."""

    items: dict[str, Item]


@dataclass(frozen=True)
class Type:
    """A type."""

    definition: TypeDefinition


@dataclass(frozen=True)
class Options:
    """How a function passes what does not fit into core values."""

    encoding: str = "utf8"
    memory: int | None = None
    realloc: int | None = None
    post_return: int | None = None


@dataclass(frozen=True)
class Lift:
    """Makes a function of a core function."""

    core: int
    type: int
    options: Options


@dataclass(frozen=True)
class Lower:
    """Makes a core function of a function."""

    function: int
    options: Options


@dataclass(frozen=True)
class ResourceDrop:
    """Makes a core function that drops a handle."""

    type: int


@dataclass(frozen=True)
class Export:
    """An export, which is an item of its own as well."""

    name: str
    item: Item


@dataclass
class Component:
    """A component's definitions."""

    definitions: list[object] = field(default_factory=list)

    def exports(self) -> list[str]:
        """The names of what it exports."""
        return [one.name for one in self.definitions if isinstance(one, Export)]


def read(binary: bytes) -> Component:
    """Reads a component. Raises `InvalidComponent`, or `Unsupported`."""
    if binary.startswith(MODULE_MAGIC):
        raise InvalidComponent(
            "it is a core module, not a component; make one of it with `wasm-tools component new`"
        )
    return _component(Reader(binary), 0)


def _component(reader: Reader, depth: int) -> Component:
    if reader.take(8) != COMPONENT_MAGIC:
        raise InvalidComponent("it does not begin as a component does")
    if depth > DEEPEST:
        raise InvalidComponent("components are nested too deep")
    component = Component()
    add = component.definitions.append
    while not reader.at_end:
        section, part = reader.byte(), reader.part()
        if section == 0:
            continue
        if section == 1:
            add(CoreModule(part.rest()))
            continue
        if section == 4:
            add(_component(part, depth + 1))
            continue
        read_one = _SECTIONS.get(section)
        if read_one is None:
            raise Unsupported(f"it has a section of kind {section}, which this host does not know")
        for _ in range(part.u32()):
            add(read_one(part))
        if not part.at_end:
            raise InvalidComponent(f"a section of kind {section} is longer than its contents")
    return component


def _core_sort(reader: Reader) -> str:
    code = reader.byte()
    if code not in CORE_SORTS:
        raise InvalidComponent(f"there is no core sort {code:#04x}")
    return CORE_SORTS[code]


def _core_instance(reader: Reader) -> object:
    kind = reader.byte()
    if kind == 0:
        module = reader.u32()
        arguments = {}
        for _ in range(reader.u32()):
            name = reader.name()
            if reader.byte() != 0x12:
                raise InvalidComponent("a core module takes something else than an instance")
            arguments[name] = reader.u32()
        return CoreInstantiation(module, arguments)
    if kind == 1:
        items = {}
        for _ in range(reader.u32()):
            name = reader.name()
            items[name] = Item(_core_sort(reader), reader.u32())
        return CoreBundle(items)
    raise InvalidComponent(f"there is no core instance of kind {kind}")


def _core_type(reader: Reader) -> object:
    raise Unsupported("it defines core types, which this host does not know")


def _instance(reader: Reader) -> object:
    kind = reader.byte()
    if kind == 0:
        component = reader.u32()
        arguments = {}
        for _ in range(reader.u32()):
            name = reader.name()
            arguments[name] = Item(read_sort(reader), reader.u32())
        return Instantiation(component, arguments)
    if kind == 1:
        items = {}
        for _ in range(reader.u32()):
            name = read_external_name(reader)
            items[name] = Item(read_sort(reader), reader.u32())
        return Bundle(items)
    raise InvalidComponent(f"there is no instance of kind {kind}")


def _canonical(reader: Reader) -> object:
    kind = reader.byte()
    if kind in (0, 1):
        if reader.byte() != 0:
            raise InvalidComponent("a canonical function is of no known kind")
        index = reader.u32()
        options = _options(reader)
        return Lift(index, reader.u32(), options) if kind == 0 else Lower(index, options)
    if kind == 3:
        return ResourceDrop(reader.u32())
    if kind in (2, 4):
        raise Unsupported(
            "it defines resources of its own, which a service in callback style has not"
        )
    raise Unsupported(
        "it uses the component model's async functions, as services in await style do; "
        "this host runs services in callback style"
    )


def _options(reader: Reader) -> Options:
    encoding, indices = "utf8", {}
    for _ in range(reader.u32()):
        kind = reader.byte()
        if kind == 1:
            encoding = "utf16"
        elif kind == 2:
            encoding = "latin1+utf16"
        elif kind in (3, 4, 5):
            indices[kind] = reader.u32()
        elif kind != 0:
            raise Unsupported(
                "it has async functions, as services in await style do; "
                "this host runs services in callback style"
            )
    return Options(encoding, indices.get(3), indices.get(4), indices.get(5))


def _import(reader: Reader) -> object:
    name = read_external_name(reader)
    return read_external_type(reader, name)


def _export(reader: Reader) -> object:
    name = read_external_name(reader)
    item = Item(read_sort(reader), reader.u32())
    reader.optional(lambda: read_external_type(reader, name))
    return Export(name, item)


def _start(reader: Reader) -> object:
    raise Unsupported("it has a start function, which this host does not know")


def _type(reader: Reader) -> object:
    return Type(read_type(reader, 0))


_SECTIONS = {
    2: _core_instance,
    3: _core_type,
    5: _instance,
    6: read_alias,
    7: _type,
    8: _canonical,
    9: _start,
    10: _import,
    11: _export,
}
