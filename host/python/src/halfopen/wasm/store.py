"""An instance of a component's core modules: its memory, and calls of its functions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wasmtime import FuncType, Module, ValType

from halfopen.component.linking import CoreExport, CoreInstance, HostFunction, Plan, Source
from halfopen.errors import InvalidComponent, Trapped
from halfopen.wasm import api
from halfopen.wasm.cells import read_core, write_core
from halfopen.wasm.engine import Compiler

#: How many elements the tables of an instance may have.
MOST_ELEMENTS = 100_000

_CORE_TYPES = {"i32": ValType.i32, "i64": ValType.i64, "f32": ValType.f32, "f64": ValType.f64}


@dataclass(frozen=True)
class HostCallback:
    """A function of the host, as C calls it."""

    parameters: tuple[str, ...]
    results: tuple[str, ...]
    callback: Any


class Code:
    """The compiled core modules of a component, and where their imports come from."""

    def __init__(self, compiler: Compiler, plan: Plan, host: Sequence[HostCallback]) -> None:
        self.compiler = compiler
        self.modules = [compiler.compile(code) for code in plan.modules]
        self._host = host
        self._types = [
            FuncType(
                [_CORE_TYPES[one]() for one in function.parameters],
                [_CORE_TYPES[one]() for one in function.results],
            )
            for function in host
        ]
        #: For each function of the host: its type and its callback.
        self.host = [
            (api.address(kind.ptr()), function.callback)
            for kind, function in zip(self._types, host)
        ]
        self.steps = [
            (
                api.address(self.modules[step.module].ptr()),
                _imports(self.modules[step.module], step.arguments),
            )
            for step in plan.steps
        ]


def _imports(module: Module, arguments: dict[str, Any]) -> list[Source]:
    """Returns where each import of a module comes from, in the module's order."""
    sources: list[Source] = []
    for one in module.imports:
        instance, name = arguments.get(one.module), one.name or ""
        if isinstance(instance, CoreInstance):
            sources.append(CoreExport(instance.number, name))
        elif instance is not None and name in instance.items:
            sources.append(instance.items[name])
        else:
            raise InvalidComponent(
                f"a core module imports `{one.module}` `{name}`, which nothing provides"
            )
    return sources


class Store:
    """One instance. After a trap, and after `close`, nothing of it may be called."""

    def __init__(self, code: Code, max_memory: int) -> None:
        self._code = code
        self._store = api.new_store(api.address(code.compiler.engine.ptr()), None, None)
        self.context: int = api.store_context(self._store)
        api.limit_store(self._store, max_memory, MOST_ELEMENTS, -1, -1, -1)
        code.compiler.watch(self._store)
        self._trap = ctypes.c_void_p()
        self._trap_address = ctypes.addressof(self._trap)
        self._instances: list[api.Instance] = []
        self._host: dict[int, Any] = {}
        self._kept: list[Any] = []

    def instantiate(self) -> None:
        """Instantiates the modules. Raises `Trapped`."""
        compiler = self._code.compiler
        for module, sources in self._code.steps:
            externs = (api.Extern * len(sources))()
            for at, source in enumerate(sources):
                externs[at] = self.extern(source)
            instance = api.Instance()
            compiler.calls += 1
            error = api.new_instance(
                self.context,
                module,
                ctypes.addressof(externs) if sources else None,
                len(sources),
                ctypes.addressof(instance),
                self._trap_address,
            )
            compiler.calls += 1
            self.check(error)
            self._instances.append(instance)

    def extern(self, source: Source) -> Any:
        """Returns a core function, memory or table of the instance."""
        if isinstance(source, HostFunction):
            if source.number not in self._host:
                kind, callback = self._code.host[source.number]
                self._host[source.number] = self.new_function(kind, callback)
            return self._host[source.number]
        if source.instance >= len(self._instances):
            raise InvalidComponent("a core module needs one that is instantiated later")
        extern, name = api.Extern(), source.name.encode()
        if not api.instance_export(
            self.context,
            ctypes.addressof(self._instances[source.instance]),
            name,
            len(name),
            ctypes.addressof(extern),
        ):
            raise InvalidComponent(f"a core module does not export `{source.name}`")
        return extern

    def new_function(self, kind: int, callback: Any) -> Any:
        """Makes a function of the host for this instance."""
        extern = api.Extern()
        extern.kind = ctypes.c_uint8(api.FUNCTION_KIND)
        api.new_function(self.context, kind, callback, None, None, ctypes.addressof(extern.of.func))
        return extern

    def function(self, source: Source) -> Function:
        """Returns a core function, to call it."""
        extern = self.extern(source)
        if extern.kind != api.FUNCTION_KIND:
            raise InvalidComponent("a function is something else")
        self._kept.append(extern)
        return Function(self, ctypes.addressof(extern.of.func))

    def memory(self, source: Source) -> Memory:
        """Returns a memory."""
        extern = self.extern(source)
        if extern.kind != api.MEMORY_KIND:
            raise InvalidComponent("a memory is something else")
        self._kept.append(extern)
        return Memory(self, ctypes.addressof(extern.of.memory))

    def trap_parts(self) -> tuple[ctypes.c_void_p, int]:
        """Returns where a call leaves a trap, and the address of that."""
        return self._trap, self._trap_address

    def check(self, error: int | None) -> None:
        """Raises `Trapped` if a call has returned an error or a trap."""
        if error:
            raise Trapped(api.error_message(error))
        if self._trap.value:
            trap, self._trap.value = self._trap.value, None
            raise Trapped(api.trap_message(trap))

    def close(self) -> None:
        """Frees everything. No function of the instance may be under way."""
        if self._store:
            api.delete_store(self._store)
            self._store = None
            self._instances.clear()


class Function:
    """A core function of an instance."""

    __slots__ = ("_address", "_cells", "_compiler", "_context", "_place", "_store", "_trap")

    def __init__(self, store: Store, address: int) -> None:
        self._store, self._address = store, address
        self._compiler = store._code.compiler
        self._context, self._trap = store.context, store._trap_address
        self._cells = (ctypes.c_uint32 * (17 * api.WORDS))()
        self._place = ctypes.addressof(self._cells)

    def parts(self) -> tuple[int, Any, int]:
        """Returns the address of the function, its cells, and their address, to call it without
        this class."""
        return self._address, self._cells, self._place

    def call(
        self, arguments: Sequence[tuple[str, int | float]], results: Sequence[str]
    ) -> list[int | float]:
        """Calls the function with core values of these types. Raises `Trapped`."""
        cells = (ctypes.c_uint32 * (17 * api.WORDS))()
        for at, (kind, value) in enumerate(arguments):
            write_core(cells, at, kind, value)
        self._call(ctypes.addressof(cells))
        return list(read_core(cells, results))

    def __call__(self, *arguments: int) -> int:
        """Calls the function with integers of 32 bits; returns its first result, if it has any.

        A function of the host may call it, for memory. Raises `Trapped`.
        """
        cells, at = self._cells, 0
        for argument in arguments:
            cells[at] = argument
            at += api.WORDS
        self._call(self._place)
        return cells[0]

    def _call(self, place: int) -> None:
        compiler = self._compiler
        outer = compiler.calls & 1 == 0
        compiler.calls += outer
        error = api.call(self._context, self._address, place, 17, self._trap)
        compiler.calls += outer
        if error or self._store._trap.value:
            self._store.check(error)


class Memory:
    """A memory of an instance, which may grow, but keeps its address."""

    __slots__ = ("_address", "_base", "_context", "size", "view")

    def __init__(self, store: Store, address: int) -> None:
        self._context, self._address = store.context, address
        self._base = api.memory_data(self._context, address)
        self.size = 0
        self.view = memoryview(b"")
        self.refresh()

    def refresh(self) -> None:
        """Looks at how large the memory is now."""
        size = api.memory_size(self._context, self._address)
        if size != self.size:
            self.size = size
            self.view = memoryview((ctypes.c_uint8 * size).from_address(self._base)).cast("B")

    def piece(self, address: int, length: int) -> memoryview:
        """Returns a piece of the memory, to read or write it at once. Raises `Trapped`."""
        end = address + length
        if end > self.size:
            self.refresh()
            if end > self.size:
                raise Trapped("the service passed a pointer that is out of its memory")
        return self.view[address:end]
