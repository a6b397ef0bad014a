"""The gentle close of a connection (rule C2), and its opposite."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable

from halfopen.tcp.reactor import Alarm, Reactor

#: How long a closing connection waits for more data from its peer, and how long in all.
LINGER_IDLE = 2.0
LINGER_TOTAL = 30.0

_NO_LINGER = struct.pack("ii", 1, 0)


def reset(connection: socket.socket) -> None:
    """Closes a connection with RST, if it exists."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    except OSError:
        pass
    connection.close()


class Closing:
    """Discards what the peer still sends, and then closes.

    Without this, close(2) with unread data sends RST, and the peer's kernel discards what was
    sent last (RFC 1122, section 4.2.2.13).
    """

    def __init__(
        self, reactor: Reactor, connection: socket.socket, ended: Callable[[], None]
    ) -> None:
        self._reactor, self._socket, self._ended = reactor, connection, ended
        self._descriptor = connection.fileno()
        self._until = time.monotonic() + LINGER_TOTAL
        self._last = time.monotonic()
        self._alarm: Alarm | None = None
        reactor.register(self._descriptor, select.EPOLLIN, self._ready)
        self._wait()

    def _ready(self, _events: int) -> None:
        try:
            if self._socket.recv(65536):
                self._last = time.monotonic()
                if self._last < self._until:
                    return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def _wait(self) -> None:
        when = min(self._last + LINGER_IDLE, self._until)
        self._alarm = self._reactor.alarm(when, self._ring)

    def _ring(self) -> None:
        if time.monotonic() < min(self._last + LINGER_IDLE, self._until):
            self._wait()
        else:
            self.close()

    def close(self) -> None:
        """Closes at once."""
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
            self._reactor.unregister(self._descriptor)
            self._socket.close()
            self._ended()
