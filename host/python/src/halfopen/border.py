"""The border of an instance: how functions reach its memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from halfopen.component.functions import FunctionType
from halfopen.component.linking import Drop, Lowered, Options
from halfopen.component.values import Core
from halfopen.errors import Trapped
from halfopen.wasm import api
from halfopen.wasm.store import Function, HostCallback, Memory

if TYPE_CHECKING:
    from halfopen.instance import Instance
    from halfopen.service import Service

_F32, _F64 = struct.Struct("<f"), struct.Struct("<d")


class InstanceBorder:
    """Lifts from and lowers into one memory of an instance."""

    def __init__(self, instance: Instance, options: Options) -> None:
        self._handles = instance.handles
        self._memory: Memory | None = None
        self._realloc: Function | None = None
        if options.memory is not None:
            self._memory = instance.store.memory(options.memory)
        if options.realloc is not None:
            self._realloc = instance.store.function(options.realloc)

    def read(self, address: int, length: int) -> memoryview:
        """Returns a piece of the memory."""
        if self._memory is None:
            raise Trapped("the service passed a pointer without a memory")
        return self._memory.piece(address, length)

    def allocate(self, alignment: int, length: int) -> int:
        """Allocates memory in the instance."""
        if self._realloc is None:
            raise Trapped("the service has no allocator for what it receives")
        return self._realloc(0, 0, alignment, length)

    def decode(self, data: memoryview) -> str:
        """Decodes a string."""
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError:
            raise Trapped("the service passed text that is not UTF-8") from None

    def add_handle(self, thing: Any) -> int:
        """Makes a handle."""
        return self._handles.add(thing)

    def handle(self, handle: int) -> Any:
        """Returns what a handle stands for."""
        return self._handles.get(handle)

    def take_handle(self, handle: int) -> Any:
        """Removes a handle."""
        return self._handles.take(handle)


class Handles:
    """The handles of an instance, by number."""

    #: How many an instance may have.
    MOST = 10_000

    def __init__(self) -> None:
        self._things: dict[int, Any] = {}
        self._last = 0

    def add(self, thing: Any) -> int:
        """Adds a thing, and returns its number."""
        if len(self._things) >= self.MOST:
            raise Trapped("the service has too many handles")
        while True:
            self._last = self._last % 0x3FFFFFFF + 1
            if self._last not in self._things:
                self._things[self._last] = thing
                return self._last

    def get(self, number: int) -> Any:
        """Returns a thing."""
        if number not in self._things:
            raise Trapped("the service used a handle that does not exist")
        return self._things[number]

    def take(self, number: int) -> Any:
        """Removes a thing, and returns it."""
        thing = self.get(number)
        del self._things[number]
        return thing


def _read_core(cells: Any, types: Sequence[str]) -> Iterator[Core]:
    at = 0
    for kind in types:
        low = cells[at]
        if kind == "i32":
            yield low
        elif kind == "i64":
            yield low | cells[at + 1] << 32
        elif kind == "f32":
            yield _F32.unpack(low.to_bytes(4, "little"))[0]
        else:
            yield _F64.unpack((low | cells[at + 1] << 32).to_bytes(8, "little"))[0]
        at += api.WORDS


def write_core(cells: Any, at: int, kind: str, value: Core) -> None:
    """Writes one core value into the cells of a call."""
    if kind == "f32":
        value = int.from_bytes(_F32.pack(value), "little")
    elif kind == "f64":
        value = int.from_bytes(_F64.pack(value), "little")
    number = int(value)
    cells[at] = number & 0xFFFFFFFF
    cells[at + 1] = number >> 32 & 0xFFFFFFFF


def guarded(service: Service, body: Callable[[Any], None]) -> Any:
    """Makes a function that C calls: an exception becomes a trap."""

    def function(_environment: int, _caller: int, cells: Any, _count: int) -> int:
        try:
            body(cells[0])
        except Trapped as trapped:
            return api.new_trap(str(trapped))
        except BaseException as error:
            service.fault(error)
            return api.new_trap(f"the host failed: {error!r}")
        return 0

    return api.Callback(function)


def callback(
    service: Service, function: Lowered | Drop, implementation: Callable[..., Any]
) -> HostCallback:
    """Makes the core function of a function of the host."""
    if isinstance(function, Drop):

        def drop(cells: Any) -> None:
            service.current.handles.take(cells[0])

        return HostCallback(("i32",), (), guarded(service, drop))
    kind: FunctionType = function.function.type
    options = function.options
    parameters, results = kind.lowered()

    def call(cells: Any) -> None:
        instance = service.current
        border = instance.border(options)
        core = _read_core(cells, parameters)
        arguments = kind.lift_parameters(border, core)
        result = implementation(instance, *arguments)
        for one, value in zip(results, kind.lower_result(border, result, core)):
            write_core(cells, 0, one, value)

    return HostCallback(parameters, results, guarded(service, call))


def write_callback(service: Service, options: Options) -> Any:
    """Makes `sockets.write`, whose data goes to the kernel straight from the memory."""

    def write(_environment: int, _caller: int, cells: Any, _count: int) -> int:
        try:
            cell = cells[0]
            instance = service.current
            connection = instance.connections.get(cell[0])
            address, length = cell[4], cell[8]
            memory = instance.memory
            end = address + length
            data = memory.view[address:end] if end <= memory.size else memory.piece(address, length)
            cell[0] = 2 if connection is None else connection.write(data)
            return 0
        except Trapped as trapped:
            return api.new_trap(str(trapped))
        except BaseException as error:
            service.fault(error)
            return api.new_trap(f"the host failed: {error!r}")

    return api.Callback(write)


#: The core type of `sockets.write`.
WRITE_TYPE = (("i32", "i32", "i32"), ("i32",))
