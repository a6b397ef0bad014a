"""What a connection sends and receives."""

from __future__ import annotations

import array
import errno
import fcntl
import select
import socket
import termios
from typing import TYPE_CHECKING

from halfopen.tcp import codes
from halfopen.tcp.address import SocketAddress
from halfopen.tcp.closing import reset
from halfopen.tcp.codes import ErrorCode
from halfopen.tcp.pipe import may_pump
from halfopen.tcp.reactor import LARGEST_CHUNK
from halfopen.tcp.states import Receiving, Sending

if TYPE_CHECKING:
    from halfopen.tcp.connection import Connection
    from halfopen.tcp.idle import Idle
    from halfopen.tcp.owner import Owner

#: The number of unsent bytes above which nothing more is read (rule K6).
HIGH_WATER = 64 << 10

#: How much is received ahead while the service has paused (rule K7).
AHEAD = 64 << 10

#: A chunk of this length is worth a further call, so that it is copied once less.
MUCH = 16 << 10

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_FAILED = select.EPOLLERR | select.EPOLLHUP


class Transfer:
    """A socket of an instance, by its number; `Connection` adds the service's view."""

    __slots__ = (
        "_interest",
        "_much",
        "_recv_into",
        "_unacknowledged",
        "awaits_drain",
        "connecting",
        "destroyed",
        "failure",
        "fed",
        "half_open",
        "held",
        "idle",
        "is_own",
        "number",
        "owner",
        "paused",
        "pending",
        "piped",
        "queued",
        "reads",
        "receiving",
        "remote",
        "sending",
        "sink",
        "sock",
        "source",
        "tick",
    )

    def __init__(
        self,
        owner: Owner,
        number: int,
        connection: socket.socket,
        remote: SocketAddress | None,
        connecting: bool = False,
    ) -> None:
        self.owner, self.number, self.remote = owner, number, remote
        self.sock: socket.socket | None = connection
        self._recv_into = connection.recv_into
        self.connecting = connecting
        #: Whether the service has made the connection itself.
        self.is_own = False
        self.sending, self.receiving = Sending.OPEN, Receiving.OPEN
        self.failure: ErrorCode | None = None
        self.destroyed = self.paused = self.half_open = self.awaits_drain = False
        #: What is written and not with the kernel.
        self.pending = bytearray()
        #: A chunk that is received and not delivered, because the service has paused.
        self.held: bytes | None = None
        self.idle: Idle | None = None
        #: Whether what is received goes to a pipe, and whether a pipe has the sending direction.
        self.piped = self.fed = False
        self.sink: Connection | None = None
        self.source: Connection | None = None
        self.queued = False
        #: Whether data is delivered as soon as it comes.
        self.reads = False
        #: Whether the last chunk was long.
        self._much = False
        #: The server's tick when data moved last.
        self.tick = owner.clock.tick
        #: How much the peer's kernel had not acknowledged, when that was looked at last.
        self._unacknowledged = 0
        self._interest = _OUT if connecting else 0
        owner.reactor.register(connection.fileno(), self._interest, self.ready)

    @property
    def stopped(self) -> bool:
        """Whether nothing more is received or sent, except a FIN that is due."""
        return self.destroyed or self.failure is not None

    @property
    def receives(self) -> bool:
        """Whether the peer's FIN has not been received."""
        return self.receiving is Receiving.OPEN

    def is_over(self) -> bool:
        """Whether both directions have ended by FIN."""
        return self.receiving is not Receiving.OPEN and self.sending is Sending.FINISHED

    def ready(self, events: int) -> None:
        """Receives, or looks why the connection is ready."""
        if events == _IN and self.reads:
            owner = self.owner
            if self._much:
                return self._receive_much()
            try:
                length = self._recv_into(owner.reactor.buffer)
            except OSError as error:
                if not isinstance(error, BlockingIOError):
                    self.fail(codes.from_number(error.errno))
                return
            if not length:
                return self._received_end()
            self.tick = owner.clock.tick
            if self.idle is not None:
                self.idle.moved()
            self._much = length >= MUCH
            return owner.deliver(self, length)
        if self.connecting:
            return self._connected()
        if events & _OUT:
            self.touch()
        if self.sink is not None:
            return self.touch()
        if self.may_read():
            if events & (_IN | _FAILED):
                self._receive()
        elif events & _FAILED:
            self._look_for_failure()

    def _receive(self) -> None:
        buffer = self.owner.reactor.buffer
        try:
            length = self._recv_into(buffer[:AHEAD] if self.paused else buffer)
        except BlockingIOError:
            return
        except OSError as error:
            return self.fail(codes.from_number(error.errno))
        if length == 0:
            return self._received_end()
        self.moved()
        if self.paused:
            self.held = bytes(buffer[:length])
            self.touch()
        else:
            self.owner.deliver(self, length)

    def _receive_much(self) -> None:
        """Receives straight into the memory of the instance: how much is known before."""
        assert self.sock is not None
        waiting = array.array("i", [0])
        fcntl.ioctl(self.sock, termios.FIONREAD, waiting)
        length = min(waiting[0], LARGEST_CHUNK)
        self._much = length >= MUCH
        room = self.owner.allocate(self, length) if self._much else None
        if room is None:
            return None if self.owner.dead else self._receive()
        at, piece = room
        try:
            received = self._recv_into(piece)
        except OSError as error:
            return self.fail(codes.from_number(error.errno))
        self.moved()
        self.owner.deliver_at(self, at, received)

    def receive_into(self, buffer: memoryview) -> int | None:
        """Receives for a pipe; `None` if there is nothing, and 0 if that was the end."""
        if self.connecting:
            return None
        try:
            length = self._recv_into(buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            self.fail(codes.from_number(error.errno))
            return 0
        if length:
            self.moved()
        else:
            self.receiving = Receiving.ENDED
        return length

    def _received_end(self) -> None:
        self.receiving = Receiving.ENDED
        self.touch()

    def _look_for_failure(self) -> None:
        """Nothing is read now, but the connection may have failed."""
        if self.sock is None:
            return
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.fail(codes.from_number(number))
        else:
            # Both directions have ended, which epoll would report for ever.
            self.owner.reactor.unregister(self.sock.fileno())
            self._interest = -1

    def _connected(self) -> None:
        assert self.sock is not None
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.connecting = False
        if number:
            # connect(2) reports EADDRNOTAVAIL when all ephemeral ports are in use.
            code = codes.from_number(number)
            self.fail(("address-in-use", None) if code[0] == "address-not-bindable" else code)
        self.moved()
        if self.source is not None:
            self.source.touch()
        self.touch()

    def settle(self) -> None:
        """Does what is due."""
        raise NotImplementedError

    def touch(self) -> None:
        """Lets the connection settle once the current event has returned."""
        if not self.queued:
            self.queued, self.reads = True, False
            self.owner.reactor.unsettled.append(self)

    def offer(self, data: memoryview) -> bool:
        """Sends data, or keeps it; returns whether the connection still works."""
        taken = 0
        if not self.pending and not self.connecting and self.sock:
            try:
                taken = self.sock.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self.fail(codes.from_number(error.errno))
                return False
            self.moved()
            if taken == len(data):
                return True
        if not self.owner.may_keep(len(data) - taken):
            self.send_reset()
            self.fail(codes.error_code("out-of-memory"))
            return False
        self.pending += data[taken:]
        self.touch()
        return True

    def send_pending(self) -> None:
        """Sends what is written, and FIN behind it, as far as the kernel has room."""
        if self.sock is None or self.connecting or self.stopped:
            return
        try:
            if self.pending:
                taken = self.sock.send(self.pending)
                del self.pending[:taken]
                self.owner.kept -= taken
                self.moved()
                if not self.pending and self.source is not None:
                    self.source.touch()
            if not self.pending and self.sending is Sending.ENDING:
                self.sock.shutdown(socket.SHUT_WR)
                self.sending = Sending.FINISHED
        except BlockingIOError:
            pass
        except OSError as error:
            number = error.errno
            if number == errno.ENOTCONN:
                # After a reset, shutdown(2) fails so; SO_ERROR still holds the reset itself.
                number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or number
            self.fail(codes.from_number(number))

    def may_read(self) -> bool:
        """Whether the service gets what comes next."""
        return (
            self.receiving is Receiving.OPEN
            and not self.stopped
            and not self.piped
            and not self.connecting
            and self.held is None
            and len(self.pending) <= HIGH_WATER
        )

    def watch(self) -> None:
        """Waits for what the connection needs next."""
        if self.sock is None:
            return
        may_read = self.may_read() or (self.sink is not None and may_pump(self))
        interest = (_IN if may_read else 0) | (_OUT if self.pending or self.connecting else 0)
        if interest != self._interest:
            reactor, descriptor = self.owner.reactor, self.sock.fileno()
            if self._interest >= 0:
                reactor.modify(descriptor, interest)
            elif interest:
                reactor.register(descriptor, interest, self.ready)
            else:
                return
            self._interest = interest
        self.reads = may_read and not self.piped and not self.paused

    def moved(self) -> None:
        """Records that data was received or sent."""
        self.tick = self.owner.clock.tick
        if self.idle is not None:
            self.idle.moved()

    def fail(self, error: ErrorCode) -> None:
        """Records an error; only the first one counts (rule E1)."""
        if self.failure is None and not self.is_over():
            self.failure = error
            self.discard()
        self.touch()

    def abort(self, error: ErrorCode) -> None:
        """The host resets the connection, which fails with an error."""
        if not self.stopped:
            self.send_reset()
            self.fail(error)

    def acknowledges(self) -> bool:
        """Whether the peer's kernel has acknowledged data since this was asked last.

        That is the peer's sign of life while it reads slowly. Counts as moving data.
        """
        if self.sock is None or self.connecting:
            return True
        value = array.array("i", [0])
        try:
            fcntl.ioctl(self.sock, termios.TIOCOUTQ, value)
        except OSError:
            return False
        if value[0] == self._unacknowledged:
            return False
        self._unacknowledged = value[0]
        self.tick = self.owner.clock.tick
        return True

    def discard(self) -> None:
        """Forgets what is written and what is received."""
        self.owner.kept -= len(self.pending)
        self.pending = bytearray()
        self.held = None
        self.awaits_drain = False
        for other in (self.source, self.sink):
            if other is not None:
                other.touch()

    def send_reset(self) -> None:
        """Sends RST."""
        if self.sock is not None:
            self.owner.reactor.unregister(self.sock.fileno())
            reset(self.sock)
            self.sock = None
            self.owner.socket_ended(self)
