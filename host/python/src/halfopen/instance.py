"""One instance of a service: its connections, and the calls of its events."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Any

from halfopen.border import Handles, InstanceBorder
from halfopen.component.linking import Options, Source
from halfopen.errors import Trapped
from halfopen.output import Lines, Output
from halfopen.service import Service
from halfopen.tcp import codes, policy
from halfopen.tcp.address import SocketAddress
from halfopen.tcp.closing import Closing
from halfopen.tcp.codes import ErrorCode
from halfopen.tcp.connection import Connection
from halfopen.tcp.owner import Clock
from halfopen.tcp.reactor import Alarm, Reactor
from halfopen.tcp.timers import Timers
from halfopen.tcp.transfer import Transfer
from halfopen.wasm import api
from halfopen.wasm.store import Function, Store

#: How many sockets an instance may have of its own, if it serves one connection.
MOST_OWN = 64

#: How long an instance goes on after its connection has ended, in seconds.
BACKGROUND = 30.0


class Instance:
    """An instance, which calls nothing after it has trapped or ended."""

    def __init__(
        self,
        service: Service,
        reactor: Reactor,
        clock: Clock,
        output: Output,
        ended: Callable[[Transfer], None],
        finished: Callable[[Instance], None],
        trapped: Callable[[Instance, Trapped, Transfer | None], None],
    ) -> None:
        self.service, self.settings = service, service.settings
        self.reactor, self.clock = reactor, clock
        self._ended, self._finished, self._trapped = ended, finished, trapped
        self.connections: dict[int, Connection] = {}
        self.closing: set[Closing] = set()
        self._last = 0
        self.own = 0
        self.kept = 0
        self.dead = False
        self.handles = Handles()
        self.stdout, self.stderr = Lines(output.stdout), Lines(output.stderr)
        self.timers = Timers(reactor, self._fired)
        self._background: Alarm | None = None
        self._sources: dict[Source, Function] = {}
        self._borders: dict[Options, InstanceBorder] = {}
        self.store = Store(service.code, self.settings.max_memory)
        try:
            service.current = self
            self.store.instantiate()
            assert service.memory is not None
            self.memory = self.store.memory(service.memory)
            self._functions = {
                name: self.store.function(event.core) for name, event in service.events.items()
            }
            self._fired_function = (
                self.store.function(service.fired.core) if service.fired else None
            )
            self._realloc = self.store.function(service.realloc)
        except BaseException:
            self.store.close()
            raise
        self._realloc_at, self._realloc_cells, self._realloc_place = self._realloc.parts()
        self._data_at, self._data_cells, self._data_place = self._functions["data"].parts()
        self._data_finishes = service.events["data"].options.post_return is not None
        self._buffer = reactor.buffer
        self._context, self._compiler = self.store.context, service.code.compiler
        self._trap, self._trap_at = self.store.trap_parts()

    # --- Connections -------------------------------------------------------------------------

    def accept(self, sock: socket.socket, remote: SocketAddress | None) -> Connection:
        """Takes a connection that the server has accepted; `settle` then begins it."""
        connection = Connection(self, self._number(), sock, remote)
        self.connections[connection.number] = connection
        return connection

    def connect(self, remote: SocketAddress) -> Any:
        """Begins to connect; the value of `connecting.connect`."""
        case = policy.check(remote[0], remote[1], self.settings.allow_connect)
        if case:
            return "err", codes.error_code(case)
        shared = self.service.isolation == "shared"
        most = self.settings.max_connections if shared else MOST_OWN
        if most and self.own >= most:
            return "err", (
                "other",
                f"the service has {most} sockets of its own, which is the limit",
            )
        try:
            family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            return "err", codes.from_number(error.errno)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex(remote)
        if number not in (0, errno.EINPROGRESS):
            # The outcome is an event, whatever it is.
            sock.close()
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connection = Connection(self, self._number(), sock, remote, connecting=True)
        self.connections[connection.number] = connection
        self.own += 1
        connection.is_own = True
        if number not in (0, errno.EINPROGRESS):
            connection.connecting = False
            connection.fail(codes.from_number(number))
        elif limit := self.settings.connect_timeout:
            self.reactor.alarm(time.monotonic() + limit, connection.give_up_connecting)
        return "ok", connection.number

    def _number(self) -> int:
        # After four thousand million the numbers begin again, and leave out those in use (K10).
        while True:
            self._last = (self._last + 1) & 0xFFFFFFFF
            if self._last and self._last not in self.connections:
                return self._last

    def may_keep(self, length: int) -> bool:
        """Counts bytes that have to wait, if the instance may have them (rule K11)."""
        most = self.settings.max_memory
        if most and self.kept + length > most:
            return False
        self.kept += length
        return True

    def remove(self, connection: Connection) -> None:
        """Forgets a connection whose last event has returned."""
        self.connections.pop(connection.number, None)
        self.reactor.unsettled.append(self)

    def settle(self) -> None:
        """Ends an instance whose connection has ended: at once, if nothing else goes on (C8)."""
        if self.dead or self.service.isolation == "shared" or self.closing:
            return
        if any(not one.is_own for one in self.connections.values()):
            return
        if not self.connections and not self.timers:
            self.end()
        elif self._background is None:
            when = time.monotonic() + BACKGROUND
            self._background = self.reactor.alarm(when, self.end)

    def linger(self, connection: Connection, sock: socket.socket) -> None:
        """Lets a socket close gently."""

        def ended() -> None:
            self.closing.discard(closing)
            self.socket_ended(connection)
            self.reactor.unsettled.append(self)

        closing = Closing(self.reactor, sock, ended)
        self.closing.add(closing)

    def socket_ended(self, connection: Transfer) -> None:
        """The socket of a connection is closed."""
        if connection.is_own:
            self.own -= 1
        self._ended(connection)

    # --- Events ------------------------------------------------------------------------------

    def deliver(self, connection: Transfer, length: int) -> None:
        """Calls `data` with what lies in the reactor's buffer."""
        self.service.current = self
        compiler, memory = self._compiler, self.memory
        cells = self._realloc_cells
        cells[0] = cells[4] = 0
        cells[8], cells[12] = 1, length
        # Calls as `Function` makes them, without its further calls of Python.
        compiler.calls += 1
        error = api.call(self._context, self._realloc_at, self._realloc_place, 4, self._trap_at)
        compiler.calls += 1
        if error or self._trap.value:
            return self._failed(error, connection)
        at = cells[0]
        end = at + length
        if end > memory.size:
            try:
                memory.piece(at, length)
            except Trapped as trapped:
                return self._trap_with(trapped, connection)
        memory.view[at:end] = self._buffer[:length]
        self._call_data(connection, at, length)

    def allocate(self, connection: Transfer, length: int) -> tuple[int, memoryview] | None:
        """Makes room for a chunk in the memory of the instance; `None` after a trap."""
        self.service.current = self
        try:
            at = self._realloc(0, 0, 1, length)
            return at, self.memory.piece(at, length)
        except Trapped as trapped:
            self._trap_with(trapped, connection)
            return None

    def deliver_at(self, connection: Transfer, at: int, length: int) -> None:
        """Calls `data` with what lies in the memory of the instance."""
        self.service.current = self
        self._call_data(connection, at, length)

    def _call_data(self, connection: Transfer, at: int, length: int) -> None:
        cells, compiler = self._data_cells, self._compiler
        cells[0], cells[4], cells[8] = connection.number, at, length
        compiler.calls += 1
        error = api.call(self._context, self._data_at, self._data_place, 3, self._trap_at)
        compiler.calls += 1
        if error or self._trap.value:
            self._failed(error, connection)
        elif self._data_finishes:
            try:
                self._finish("data")
            except Trapped as trapped:
                self._trap_with(trapped, connection)

    def deliver_bytes(self, connection: Connection, data: bytes) -> None:
        """Calls `data`."""
        room = self.allocate(connection, len(data))
        if room is not None:
            room[1][:] = data
            self.deliver_at(connection, room[0], len(data))

    def call(self, event: str, number: int, connection: Connection, *detail: int) -> None:
        """Calls an event."""
        if self.dead:
            return
        self.service.current = self
        try:
            self._functions[event](number, *detail)
            self._finish(event)
        except Trapped as trapped:
            self._trap_with(trapped, connection)

    def call_error(self, number: int, error: ErrorCode, connection: Connection) -> None:
        """Calls `error`."""
        lifted = self.service.events["error"]
        self.service.current = self
        try:
            core = lifted.type.parameters[1].lower(self.border(lifted.options), error)
            self._functions["error"](number, *(int(one) & 0xFFFFFFFF for one in core))
            self._finish("error")
        except Trapped as trapped:
            self._trap_with(trapped, connection)

    def _fired(self, timer: int) -> None:
        if self.dead or self._fired_function is None:
            return
        self.service.current = self
        try:
            self._fired_function(timer)
        except Trapped as trapped:
            self._trap_with(trapped, None)

    def _finish(self, event: str) -> None:
        """Calls what the component wants to be called after an event, if there is something."""
        post_return = self.service.events[event].options.post_return
        if post_return:
            self.function(post_return)()

    def function(self, source: Source) -> Function:
        """Returns a core function."""
        function = self._sources.get(source)
        if function is None:
            function = self._sources[source] = self.store.function(source)
        return function

    def border(self, options: Options) -> InstanceBorder:
        """Returns what lifts and lowers with these options."""
        border = self._borders.get(options)
        if border is None:
            border = self._borders[options] = InstanceBorder(self, options)
        return border

    # --- The end -----------------------------------------------------------------------------

    def _failed(self, error: int | None, connection: Transfer) -> None:
        try:
            self.store.check(error)
        except Trapped as trapped:
            self._trap_with(trapped, connection)

    def _trap_with(self, trapped: Trapped, connection: Transfer | None) -> None:
        self.end()
        self._trapped(self, trapped, connection)

    def end(self) -> None:
        """Ends the instance: its connections are reset, and none of their events follow."""
        if self.dead:
            return
        self.dead = True
        if self._background:
            self._background.cancel()
        self.timers.close()
        for connection in list(self.connections.values()):
            connection.drop()
        self.connections.clear()
        self.stdout.close()
        self.stderr.close()
        self._borders.clear()
        self._sources.clear()
        self._functions.clear()
        # Nothing of the instance is under way: events are not called within events.
        self.store.close()
        self._finished(self)
