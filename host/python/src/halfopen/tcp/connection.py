"""One connection of an instance: what its service may do, and which event comes next.

The states and their order are those of `halfopen_model::Machine` in the project's library.
Calls of the service change the state and leave the rest to `settle`, which comes once the event
that is being handled has returned; only written data goes to the kernel at once, straight from
the memory of the instance.
"""

from __future__ import annotations

import array
import enum
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
from halfopen.tcp.idle import Idle
from halfopen.tcp.pipe import may_pump, pump
from halfopen.tcp.reactor import LARGEST_CHUNK

if TYPE_CHECKING:
    from halfopen.tcp.owner import Owner

#: The number of unsent bytes above which nothing more is read (rule K6).
HIGH_WATER = 64 << 10

#: How much is received ahead while the service has paused (rule K7).
AHEAD = 64 << 10

#: A chunk of this length is worth a further call, so that it is copied once less.
MUCH = 16 << 10

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_FAILED = select.EPOLLERR | select.EPOLLHUP


class Written(enum.IntEnum):
    """What became of a write: the cases of `sockets.written`, in their order."""

    MORE = 0
    WAIT = 1
    ENDED = 2


class Sending(enum.Enum):
    """The progress of the sending direction."""

    OPEN = 0
    #: The service has ended it; data written before is still being sent.
    ENDING = 1
    #: FIN is with the kernel.
    FINISHED = 2


class Receiving(enum.Enum):
    """The progress of the receiving direction, as the service sees it."""

    OPEN = 0
    #: The peer's FIN is received and not delivered.
    ENDED = 1
    #: The event `end` is delivered, and its handler may still run.
    ENDING = 2
    #: The handler of `end` has returned.
    OVER = 3


class Reported(enum.Enum):
    """The last of the final events that was delivered."""

    NOTHING = 0
    ERROR = 1
    CLOSE = 2


class Connection:
    """A socket of an instance, by its number."""

    __slots__ = (
        "_awaits_drain",
        "_begun",
        "_destroyed",
        "_failure",
        "_interest",
        "_much",
        "_queued",
        "_recv_into",
        "_reported",
        "connecting",
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
        self._begun = False
        self.sending, self.receiving = Sending.OPEN, Receiving.OPEN
        self._reported = Reported.NOTHING
        self._failure: ErrorCode | None = None
        self._destroyed = self.paused = self.half_open = self._awaits_drain = False
        #: What is written and not with the kernel.
        self.pending = bytearray()
        #: A chunk that is received and not delivered, because the service has paused.
        self.held: bytes | None = None
        self.idle: Idle | None = None
        #: Whether what is received goes to a pipe, and whether a pipe has the sending direction.
        self.piped = self.fed = False
        self.sink: Connection | None = None
        self.source: Connection | None = None
        self._queued = False
        #: Whether data is delivered as soon as it comes.
        self.reads = False
        #: Whether the last chunk was long.
        self._much = False
        #: The server's tick when data moved last.
        self.tick = owner.clock.tick
        self._interest = _OUT if connecting else 0
        owner.reactor.register(connection.fileno(), self._interest, self.ready)

    # --- What the service calls --------------------------------------------------------------

    @property
    def can_write(self) -> bool:
        """Whether the service may write."""
        return self.sending is Sending.OPEN and not self.stopped and not self.fed

    def write(self, data: memoryview) -> Written:
        """Gives data to the kernel, and keeps what the kernel does not take."""
        if self.sending is not Sending.OPEN or self.fed or self._destroyed or self._failure:
            return Written.ENDED
        if not self.pending and self.idle is None and not self.connecting:
            # The most common case by far, without a further call.
            assert self.sock is not None
            try:
                taken = self.sock.send(data)
                self.tick = self.owner.clock.tick
                if taken == len(data):
                    return Written.MORE
                data = data[taken:]
            except BlockingIOError:
                pass
            except OSError as error:
                self.fail(codes.from_number(error.errno))
                return Written.ENDED
        if not self.offer(data):
            return Written.ENDED
        if len(self.pending) <= HIGH_WATER:
            return Written.MORE
        self._awaits_drain = True
        return Written.WAIT

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
            self._abort()
            self.fail(codes.error_code("out-of-memory"))
            return False
        self.pending += data[taken:]
        self.touch()
        return True

    def end(self) -> None:
        """Ends the sending direction: FIN follows what is written."""
        if self.sending is Sending.OPEN and not self.fed:
            self.sending = Sending.ENDING
            self._awaits_drain = False
            self.touch()

    def destroy(self) -> None:
        """Closes at once, or resets if the kernel does not take what is written (rule K5)."""
        over = self._is_over()
        if not self.stopped and not over:
            self._send()
            lost = bool(self.pending) or self.fed or self.connecting
            if lost and not self._failure:
                self._abort()
        self._leave()

    def reset(self) -> None:
        """Discards what is written, and sends RST."""
        if not self.stopped and not self._is_over():
            self._abort()
        self._leave()

    def _leave(self) -> None:
        self._destroyed = True
        self._discard()
        self.touch()

    def pause(self, paused: bool) -> None:
        """Holds back data, or lets it come (rule K7)."""
        self.paused = paused
        self.touch()

    def allow_half_open(self, allow: bool) -> None:
        """Sets whether the sending direction stays open after the peer's FIN (rule K2)."""
        self.half_open = allow

    @property
    def may_pipe(self) -> bool:
        """Whether the connection may become the source of a pipe."""
        receives = self.receiving in (Receiving.OPEN, Receiving.ENDED)
        return receives and not self.piped and not self.stopped

    @property
    def receives(self) -> bool:
        """Whether the peer's FIN has not been received."""
        return self.receiving is Receiving.OPEN

    def expect_no_drain(self) -> None:
        """A pipe has the sending direction."""
        self._awaits_drain = False

    @property
    def unsent(self) -> int:
        """How many bytes the kernel has not taken."""
        return len(self.pending)

    def set_timeout(self, milliseconds: int) -> None:
        """Sets how long the connection may be idle, until `timeout` comes (rule K14)."""
        if self.sock is None:
            return
        if self.idle is None:
            self.idle = Idle(self.owner.reactor, self.touch)
        self.idle.set(milliseconds)

    @property
    def local(self) -> SocketAddress | None:
        """The local address, while the connection exists."""
        if self.sock is None or self.connecting:
            return None
        try:
            return self.sock.getsockname()  # type: ignore[no-any-return]
        except OSError:
            return None

    # --- What the reactor calls --------------------------------------------------------------

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
        if self._may_read():
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
        received = self._recv_into(piece)
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

    def give_up_connecting(self) -> None:
        """Connecting has taken too long."""
        if self.connecting and not self.stopped:
            self._abort()
            self.fail(codes.error_code("timeout"))

    # --- What comes next ---------------------------------------------------------------------

    def touch(self) -> None:
        """Lets the connection settle once the current event has returned."""
        if not self._queued:
            self._queued, self.reads = True, False
            self.owner.reactor.unsettled.append(self)

    def settle(self) -> None:
        """Sends what is due, and delivers one event if one is due."""
        self._queued = False
        if self.owner.dead or self._reported is Reported.CLOSE:
            return
        if self.sink is not None:
            pump(self, self.owner.reactor.buffer)
        if not self._deliver_next():
            self._send()
            if not self._deliver_next():
                self._watch()

    def _deliver_next(self) -> bool:
        owner, number = self.owner, self.number
        if not self._begun and not self.connecting and not self.stopped:
            self._begun = True
            owner.call("connection", number, self)
        elif not self.stopped and self._awaits_drain and not self.pending:
            self._awaits_drain = False
            owner.call("drain", number, self)
        elif not self.stopped and not self.piped and self.held is not None:
            if self.paused or len(self.pending) > HIGH_WATER:
                return self._deliver_timeout()
            data, self.held = self.held, None
            owner.deliver_bytes(self, data)
        elif not self.stopped and not self.piped and self.receiving is Receiving.ENDED:
            self.receiving = Receiving.ENDING
            owner.call("end", number, self)
            self.receiving = Receiving.OVER
            if not self.half_open:
                self.end()
        elif not self._is_settled():
            return self._deliver_timeout()
        elif self._reported is Reported.NOTHING and self._failure and not self._destroyed:
            self._reported = Reported.ERROR
            owner.call_error(number, self._failure, self)
        else:
            had_error = self._reported is Reported.ERROR
            self._reported = Reported.CLOSE
            self._close()
            owner.call("close", number, self, int(had_error))
            owner.remove(self)
            return True
        self.touch()
        return True

    def _is_settled(self) -> bool:
        """Whether only the final events are left."""
        return self.stopped or (
            self.receiving is Receiving.OVER and self.sending is Sending.FINISHED
        )

    def _deliver_timeout(self) -> bool:
        if self.idle is None or self.sock is None or not self.idle.take():
            return False
        if self.reads or (self._may_read() and not self.paused and not self.piped):
            # Data that has arrived comes first, and starts the time anew.
            try:
                self.sock.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                pass
            except OSError as error:
                # The kernel reports an error once.
                self.fail(codes.from_number(error.errno))
                return False
            else:
                self.idle.moved()
                return False
        self.owner.call("timeout", self.number, self)
        self.touch()
        return True

    def _may_read(self) -> bool:
        return (
            self.receiving is Receiving.OPEN
            and not self.stopped
            and not self.piped
            and not self.connecting
            and self.held is None
            and len(self.pending) <= HIGH_WATER
        )

    def _watch(self) -> None:
        """Waits for what the connection needs next."""
        if self.sock is None:
            return
        may_read = self._may_read() or (self.sink is not None and may_pump(self))
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

    def _send(self) -> None:
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

    # --- The whole connection ----------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether nothing more is received or sent, except a FIN that is due."""
        return self._destroyed or self._failure is not None

    def _is_over(self) -> bool:
        """Whether both directions have ended by FIN."""
        return self.receiving is not Receiving.OPEN and self.sending is Sending.FINISHED

    def moved(self) -> None:
        """Records that data was received or sent."""
        self.tick = self.owner.clock.tick
        if self.idle is not None:
            self.idle.moved()

    def fail(self, error: ErrorCode) -> None:
        """Records an error; only the first one counts (rule E1)."""
        if self._failure is None and not self._is_over():
            self._failure = error
            self._discard()
        self.touch()

    def abort(self, error: ErrorCode) -> None:
        """The host resets the connection, which fails with an error."""
        if not self.stopped:
            self._abort()
            self.fail(error)

    def unacknowledged(self) -> int:
        """How many bytes the peer's kernel has not acknowledged."""
        if self.sock is None:
            return 0
        value = array.array("i", [0])
        try:
            fcntl.ioctl(self.sock, termios.TIOCOUTQ, value)
        except OSError:
            return 0
        return value[0]

    def drop(self) -> None:
        """The instance has ended: the connection is reset, and has no more events."""
        self._reported, self.reads = Reported.CLOSE, False
        self._abort()
        self._discard()
        if self.idle is not None:
            self.idle.close()

    def _discard(self) -> None:
        self.owner.kept -= len(self.pending)
        self.pending = bytearray()
        self.held = None
        self._awaits_drain = False
        for other in (self.source, self.sink):
            if other is not None:
                other.touch()

    def _abort(self) -> None:
        """Sends RST."""
        if self.sock is not None:
            self.owner.reactor.unregister(self.sock.fileno())
            reset(self.sock)
            self.sock = None
            self.owner.socket_ended(self)

    def _close(self) -> None:
        """Closes gently, or at once if both directions have ended or failed (rule C2)."""
        if self.idle is not None:
            self.idle.close()
        connection, self.sock = self.sock, None
        if connection is None:
            return
        self.owner.reactor.unregister(connection.fileno())
        try:
            if not self._failure and self.sending is not Sending.FINISHED:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._failure = codes.error_code("connection-broken")
        if self._failure or self.receiving is not Receiving.OPEN:
            connection.close()
            self.owner.socket_ended(self)
        else:
            self.owner.linger(self, connection)
