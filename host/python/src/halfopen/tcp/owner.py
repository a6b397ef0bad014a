"""What a connection needs of the instance that it belongs to."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from halfopen.tcp.codes import ErrorCode
from halfopen.tcp.reactor import Reactor

if TYPE_CHECKING:
    from halfopen.tcp.connection import Connection
    from halfopen.tcp.transfer import Transfer


class Clock(Protocol):
    """Counts ticks, so that a connection can note cheaply when it moved data."""

    tick: int


class Owner(Protocol):
    """An instance, as its connections see it."""

    reactor: Reactor
    clock: Clock

    #: How many bytes wait to be sent, of all connections.
    kept: int
    #: Whether the instance has trapped or ended.
    dead: bool

    def deliver(self, connection: Transfer, length: int) -> None:
        """Calls `data` with what lies in the reactor's buffer."""

    def allocate(self, connection: Transfer, length: int) -> tuple[int, memoryview] | None:
        """Makes room for a chunk in the memory of the instance; `None` after a trap."""

    def deliver_at(self, connection: Transfer, at: int, length: int) -> None:
        """Calls `data` with what lies in the memory of the instance."""

    def deliver_bytes(self, connection: Connection, data: bytes) -> None:
        """Calls `data`."""

    def call(self, event: str, number: int, connection: Connection, *detail: int) -> None:
        """Calls an event."""

    def call_error(self, number: int, error: ErrorCode, connection: Connection) -> None:
        """Calls `error`."""

    def may_keep(self, length: int) -> bool:
        """Counts bytes that have to wait, if the instance may have them (rule K11)."""

    def remove(self, connection: Connection) -> None:
        """Forgets a connection whose last event has returned."""

    def linger(self, connection: Connection, sock: socket.socket) -> None:
        """Lets a socket close gently."""

    def socket_ended(self, connection: Transfer) -> None:
        """The socket of a connection is closed."""
