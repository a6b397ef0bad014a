"""Accepts connections, and gives each to an instance."""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
import time
from collections.abc import Sequence
from functools import partial

from halfopen.errors import HalfopenError, ListenError, Trapped
from halfopen.instance import Instance
from halfopen.noise import Noise
from halfopen.output import Output
from halfopen.service import Service
from halfopen.tcp import codes
from halfopen.tcp.address import SocketAddress, display, parse_listen
from halfopen.tcp.closing import reset
from halfopen.tcp.reactor import Reactor
from halfopen.tcp.transfer import Transfer

log = logging.getLogger("halfopen")

#: How many connections wait to be accepted, and how many are accepted in one turn.
BACKLOG = 511
MOST_ACCEPTED = 16

#: How long accepting waits after an error that passes by itself, in seconds.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 1.0

#: Errors of accept(2) that a lack of something causes.
_LACKS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

#: How often in the time limit a connection is looked at.
LOOKS = 8


def listen(address: str) -> socket.socket:
    """Listens on an address. Raises `ListenError`."""
    family, host, port = parse_listen(address)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {address}: {_reason(error)}") from None
    return sock


def _reason(error: OSError) -> str:
    reasons = {
        errno.EADDRINUSE: "address already in use; stop the other program, or choose another port "
        "(0 for any free one)",
        errno.EADDRNOTAVAIL: "address not available; choose an address of this machine",
        errno.EACCES: "permission denied; choose a port from 1024, or grant CAP_NET_BIND_SERVICE",
    }
    return reasons.get(error.errno or 0) or (error.strerror or str(error))


class Server:
    """A running server. `halfopen.serve` makes it."""

    def __init__(
        self, service: Service, listeners: Sequence[socket.socket], output: Output
    ) -> None:
        self._service, self._listeners, self._output = service, list(listeners), output
        self._settings = service.settings
        self._reactor = Reactor(asyncio.get_running_loop())
        #: Counts how often connections were looked at; see `Clock`.
        self.tick = 0
        self._period = max(self._settings.idle_timeout / LOOKS, 0.02)
        self._shared: Instance | None = None
        self._instances: set[Instance] = set()
        #: Each accepted connection whose socket is open, with its instance.
        self._open: dict[Transfer, Instance] = {}
        self._accepting = False
        self._pause = SHORTEST_PAUSE
        self._stopping = False
        self._noise = Noise()
        self._stopped = asyncio.Event()
        try:
            # What is wrong with the service is reported now, and not by the first connection.
            first = self._new_instance()
            if service.isolation == "shared":
                self._shared = first
            else:
                first.end()
        except Trapped as trapped:
            self._reactor.close()
            raise HalfopenError(f"the service trapped when it was started: {trapped}") from None
        self._accept_again()
        if self._settings.idle_timeout:
            self._reactor.alarm(time.monotonic() + self._period, self._look)

    @property
    def addresses(self) -> list[str]:
        """The addresses that the server listens on, such as `127.0.0.1:1234`."""
        return [display(one.getsockname()) for one in self._listeners]

    @property
    def port(self) -> int:
        """The port of the first address."""
        return int(self._listeners[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def wait_closed(self) -> None:
        """Waits until the server has stopped."""
        await self._stopped.wait()

    async def stop(self, grace: float | None = None) -> None:
        """Stops accepting, gives open connections time to finish, then resets them.

        `grace` is in seconds, by default that of the settings.
        """
        if not self._stopping:
            self._stopping = True
            self._stop_accepting()
            for one in self._listeners:
                one.close()
            wait = self._settings.grace if grace is None else grace
            self._reactor.alarm(time.monotonic() + wait, self.close)
            self._check_stopped()
        await self.wait_closed()

    def close(self) -> None:
        """Stops at once: open connections are reset."""
        if self._stopped.is_set():
            return
        self._stopping = True
        self._stop_accepting()
        for one in self._listeners:
            one.close()
        for instance in list(self._instances):
            instance.end()
        for instance in list(self._open.values()):
            for closing in list(instance.closing):
                closing.close()
        self._check_stopped()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.close()
        await self.wait_closed()

    # --- Accepting ---------------------------------------------------------------------------

    def _accept_again(self) -> None:
        if not self._accepting and not self._stopping:
            self._accepting = True
            for one in self._listeners:
                self._reactor.register(one.fileno(), select.EPOLLIN, partial(self._accept, one))

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            for one in self._listeners:
                self._reactor.unregister(one.fileno())

    def _accept(self, listener: socket.socket, _events: int) -> None:
        for _ in range(MOST_ACCEPTED):
            if not self._accepting:
                return
            if self._is_full():
                # `_ended` accepts again.
                return self._stop_accepting()
            try:
                sock, remote = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _LACKS:
                    return self._wait(error)
                continue
            self._pause = SHORTEST_PAUSE
            self._serve(sock, remote)

    def _is_full(self) -> bool:
        return 0 < self._settings.max_connections <= len(self._open)

    def _wait(self, error: OSError) -> None:
        log.warning("cannot accept: %s; trying again in %g s", error.strerror, self._pause)
        self._stop_accepting()
        self._reactor.alarm(time.monotonic() + self._pause, self._accept_again)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _serve(self, sock: socket.socket, remote: SocketAddress) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            instance = self._shared
            if instance is None:
                instance = self._new_instance()
                if self._service.isolation == "shared":
                    self._shared = instance
        except Trapped as trapped:
            self._log_trap("the service trapped when it was started", trapped, remote)
            return reset(sock)
        except OSError:
            return sock.close()
        connection = instance.accept(sock, remote)
        self._open[connection] = instance
        # The service knows its number from the first event on, and not before.
        connection.settle()

    def _new_instance(self) -> Instance:
        instance = Instance(
            self._service,
            self._reactor,
            self,
            self._output,
            self._ended,
            self._instances.discard,
            self._trapped,
        )
        self._instances.add(instance)
        return instance

    # --- What instances report ---------------------------------------------------------------

    def _ended(self, connection: Transfer) -> None:
        """The socket of a connection is closed."""
        if self._open.pop(connection, None) is not None:
            if not self._accepting and not self._is_full():
                self._accept_again()
            self._check_stopped()

    def _trapped(self, instance: Instance, trapped: Trapped, connection: Transfer | None) -> None:
        """An instance has trapped, in an event of this connection or in a timer."""
        if instance is self._shared:
            self._shared = None
        peer = connection.remote if connection else None
        self._log_trap("the service trapped", trapped, peer)

    def _log_trap(self, what: str, trapped: Trapped, peer: SocketAddress | None) -> None:
        if self._noise.admits():
            limit = "; --max-compute is the limit" if "it computed for" in str(trapped) else ""
            whose = f" peer={display(peer)}" if peer else ""
            log.error("%s: %s%s%s%s", what, trapped, limit, self._noise.take_dropped(), whose)

    # --- Limits ------------------------------------------------------------------------------

    def _look(self) -> None:
        """Resets connections on which nothing has moved, acknowledgements included."""
        self.tick += 1
        for instance in list(self._instances):
            for connection in list(instance.connections.values()):
                if self.tick - connection.tick > LOOKS and not connection.acknowledges():
                    connection.abort(codes.error_code("timeout"))
        self._reactor.alarm(time.monotonic() + self._period, self._look)

    def _check_stopped(self) -> None:
        if self._stopping and not self._open and not self._stopped.is_set():
            for instance in list(self._instances):
                instance.end()
            self._reactor.unsettled.clear()
            self._reactor.schedule_close()
            self._service.close()
            self._stopped.set()
