"""`halfopen:tcp`: `sockets`, `connecting`, `piping`, `timers`, `socket-peer` and denied topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from halfopen.tcp import address
from halfopen.tcp.codes import error_code
from halfopen.tcp.connection import Connection
from halfopen.tcp.pipe import pipe
from halfopen.tcp.states import Written

if TYPE_CHECKING:
    from halfopen.instance import Instance

_WRITTEN = {Written.MORE: "more", Written.WAIT: "wait", Written.ENDED: "ended"}


def _write(instance: Instance, number: int, data: bytes) -> str:
    """`write` as any other function; the one that is called is in `halfopen.service`."""
    connection = instance.connections.get(number)
    written = Written.ENDED if connection is None else connection.write(memoryview(data))
    return _WRITTEN[written]


def _act(act: Callable[..., None]) -> Callable[..., None]:
    """Makes a function that does something with a connection, if it exists."""

    def function(instance: Instance, number: int, *arguments: Any) -> None:
        connection = instance.connections.get(number)
        if connection is not None:
            act(connection, *arguments)

    return function


def _unsent(instance: Instance, number: int) -> int:
    connection = instance.connections.get(number)
    return 0 if connection is None else connection.unsent


def _address(instance: Instance, number: int, which: str) -> Any:
    connection = instance.connections.get(number)
    found = None if connection is None else getattr(connection, which)
    if found is None:
        return "err", error_code("invalid-state")
    return "ok", address.to_guest(found)


def _connect(instance: Instance, remote: Any) -> Any:
    return instance.connect(address.from_guest(remote))


def _pipe(instance: Instance, source: int, sink: int) -> Any:
    if pipe(instance.connections.get(source), instance.connections.get(sink)):
        return "ok", None
    return "err", error_code("invalid-state")


def _tls(_instance: Instance, _number: int) -> None:
    """No peer has a TLS session here (rule P1)."""


def _no_topics(_instance: Instance, *_: Any) -> Any:
    """Refuse: a host without topics (rule T1)."""
    return "err", "access-denied"


INTERFACES: dict[str, dict[str, Callable[..., Any]]] = {
    "halfopen:tcp/sockets": {
        "write": _write,
        "end": _act(Connection.end),
        "destroy": _act(Connection.destroy),
        "reset": _act(Connection.reset),
        "pause": _act(lambda connection: connection.pause(True)),
        "resume": _act(lambda connection: connection.pause(False)),
        "unsent": _unsent,
        "allow-half-open": _act(Connection.allow_half_open),
        "set-timeout": _act(Connection.set_timeout),
        "local-address": lambda instance, number: _address(instance, number, "local"),
        "remote-address": lambda instance, number: _address(instance, number, "remote"),
    },
    "halfopen:tcp/connecting": {"connect": _connect},
    "halfopen:tcp/piping": {"pipe": _pipe},
    "halfopen:tcp/timers": {
        "set-timer": lambda instance, milliseconds: instance.timers.set(milliseconds, False),
        "set-interval": lambda instance, milliseconds: instance.timers.set(milliseconds, True),
        "clear": lambda instance, timer: instance.timers.clear(timer),
    },
    "halfopen:tcp/socket-peer": {"tls": _tls},
    "halfopen:tcp/topics": {"publish": _no_topics},
    "halfopen:tcp/subscribing": {
        "subscribe": _no_topics,
        "unsubscribe": lambda _instance, _topic: None,
    },
}
