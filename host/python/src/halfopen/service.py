"""A service that is ready to be instantiated: its code, and the functions that it imports."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfopen import interfaces
from halfopen.border import WRITE_TYPE, callback, crossing, write_callback
from halfopen.component import definitions, linking
from halfopen.component.linking import (
    Crossing,
    Drop,
    Lifted,
    Lowered,
    Plan,
)
from halfopen.component.values import PRIMITIVES, Bytes, Cases
from halfopen.errors import HalfopenError, InvalidComponent, Unsupported
from halfopen.settings import Isolation, Settings
from halfopen.wasm.engine import Compiler
from halfopen.wasm.store import Code, HostCallback

if TYPE_CHECKING:
    from halfopen.instance import Instance

log = logging.getLogger("halfopen")

#: The events of a service.
_EVENTS = ("connection", "data", "end", "drain", "timeout", "error", "close")


class Service:
    """A compiled component in callback style."""

    def __init__(self, component: bytes, settings: Settings, compiler: Compiler) -> None:
        parsed = definitions.read(component)
        plan = linking.link(parsed)
        self.settings = settings
        self.events = _events(plan)
        self.fired = plan.exports.get(_versioned(plan, "timer-events"), {}).get("fired")
        self.isolation: Isolation = settings.isolation or _declared(plan) or "connection"
        #: The instance whose function is called.
        self.current: Instance
        self._fault: BaseException | None = None
        host = [self._host_function(function) for function in plan.host_functions]
        options = self.events["data"].options
        if options.realloc is None or options.memory is None:
            raise InvalidComponent("the event `data` has no memory for its data")
        self.realloc, self.memory = options.realloc, options.memory
        self.code = Code(compiler, plan, host)

    @classmethod
    def load(cls, path: str | Path, settings: Settings) -> Service:
        """Reads and compiles a component. Takes a while, and raises `HalfopenError`."""
        try:
            component = Path(path).read_bytes()
        except OSError as error:
            raise HalfopenError(f"cannot read `{path}`: {error.strerror}") from None
        try:
            return cls(component, settings, Compiler(settings.max_compute, settings.cache))
        except HalfopenError as error:
            raise type(error)(f"cannot serve `{path}`: {error}") from None

    def fault(self, error: BaseException) -> None:
        """Notes an error of this package, which is a trap for the service."""
        log.error("a function of the host failed", exc_info=error)

    def close(self) -> None:
        """Ends what belongs to the service."""
        self.code.compiler.close()

    def _host_function(self, function: Lowered | Crossing | Drop) -> HostCallback:
        if isinstance(function, Drop):
            return callback(self, function, lambda: None)
        if isinstance(function, Crossing):
            return crossing(self, function)
        imported = function.function
        implementation = interfaces.find(imported.interface, imported.name)
        is_write = (
            imported.interface.startswith("halfopen:tcp/sockets@") and imported.name == "write"
        )
        if is_write and imported.type.lowered() == WRITE_TYPE:
            return HostCallback(*WRITE_TYPE, write_callback(self, function.options))
        return callback(self, function, implementation)


def _versioned(plan: Plan, interface: str) -> str:
    """Returns the name of an interface of `halfopen:tcp` with the version that is exported."""
    prefix = f"halfopen:tcp/{interface}@0.1."
    return next((name for name in plan.exports if name.startswith(prefix)), "")


def _events(plan: Plan) -> dict[str, Lifted]:
    name = _versioned(plan, "events")
    if not name:
        if _versioned(plan, "handler"):
            raise Unsupported("it is a service in await style; this host runs callback style")
        raise Unsupported("it does not export `halfopen:tcp/events@0.1.0`, so it is no service")
    events = plan.exports[name]
    for event in _EVENTS:
        if event not in events:
            raise InvalidComponent(f"`{name}` has no `{event}`")
    u32, boolean = PRIMITIVES[-0x07], PRIMITIVES[-0x01]
    expected: dict[str, tuple[Any, ...]] = {
        **{event: (u32,) for event in _EVENTS},
        "data": (u32, Bytes),
        "error": (u32, Cases),
        "close": (u32, boolean),
    }
    for event, kinds in expected.items():
        actual = events[event].type
        fits = (
            len(actual.parameters) == len(kinds)
            and actual.result is None
            and all(
                isinstance(one, kind) if isinstance(kind, type) else one is kind
                for one, kind in zip(actual.parameters, kinds)
            )
        )
        if not fits:
            raise InvalidComponent(f"`{name}` has another `{event}` than this host knows")
    return events


def _declared(plan: Plan) -> Isolation | None:
    shared = bool(_versioned(plan, "isolation-shared"))
    apart = bool(_versioned(plan, "isolation-connection"))
    if shared and apart:
        raise InvalidComponent("it declares two kinds of isolation; it may declare one")
    return "shared" if shared else "connection" if apart else None
