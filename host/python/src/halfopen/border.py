"""The border of an instance: how functions reach its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from halfopen.component.functions import FunctionType
from halfopen.component.linking import Crossing, Drop, Lowered, Options
from halfopen.errors import Trapped
from halfopen.wasm import api
from halfopen.wasm.cells import read_core, write_core
from halfopen.wasm.store import Function, HostCallback, Memory

if TYPE_CHECKING:
    from halfopen.instance import Instance
    from halfopen.service import Service


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
        core = read_core(cells, parameters)
        arguments = kind.lift_parameters(border, core)
        result = implementation(instance, *arguments)
        for one, value in zip(results, kind.lower_result(border, result, core)):
            write_core(cells, 0, one, value)

    return HostCallback(parameters, results, guarded(service, call))


def crossing(service: Service, function: Crossing) -> HostCallback:
    """Makes the core function of a function of another component."""
    lifted, options = function.function, function.options
    kind = lifted.type
    parameters, results = kind.lowered()
    inner, outcome = kind.lifted()

    def call(cells: Any) -> None:
        instance = service.current
        caller, callee = instance.border(options), instance.border(lifted.options)
        core = read_core(cells, parameters)
        arguments = kind.lower_parameters(callee, kind.lift_parameters(caller, core))
        answer = instance.function(lifted.core).call(list(zip(inner, arguments)), outcome)
        value = kind.lift_result(callee, iter(answer))
        if lifted.options.post_return:
            instance.function(lifted.options.post_return).call(list(zip(outcome, answer)), ())
        for one, lowered in zip(results, kind.lower_result(caller, value, core)):
            write_core(cells, 0, one, lowered)

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
