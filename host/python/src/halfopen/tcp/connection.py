"""One connection of an instance: what its service may do, and which event comes next.

The states and their order are those of `halfopen_model::Machine` in the project's library.
Calls of the service change the state and leave the rest to `settle`, which comes once the event
that is being handled has returned; only written data goes to the kernel at once, straight from
the memory of the instance.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from halfopen.tcp import codes
from halfopen.tcp.address import SocketAddress
from halfopen.tcp.idle import Idle
from halfopen.tcp.pipe import pump
from halfopen.tcp.states import Receiving, Reported, Sending, Written
from halfopen.tcp.transfer import HIGH_WATER, Transfer

if TYPE_CHECKING:
    from halfopen.tcp.owner import Owner


class Connection(Transfer):
    """A socket of an instance, by its number."""

    __slots__ = ("_begun", "_reported")

    def __init__(
        self,
        owner: Owner,
        number: int,
        connection: socket.socket,
        remote: SocketAddress | None,
        connecting: bool = False,
    ) -> None:
        super().__init__(owner, number, connection, remote, connecting)
        self._begun = False
        self._reported = Reported.NOTHING

    @property
    def can_write(self) -> bool:
        """Whether the service may write."""
        return self.sending is Sending.OPEN and not self.stopped and not self.fed

    def write(self, data: memoryview) -> Written:
        """Gives data to the kernel, and keeps what the kernel does not take."""
        if self.sending is not Sending.OPEN or self.fed or self.destroyed or self.failure:
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
        self.awaits_drain = True
        return Written.WAIT

    def end(self) -> None:
        """Ends the sending direction: FIN follows what is written."""
        if self.sending is Sending.OPEN and not self.fed:
            self.sending = Sending.ENDING
            self.awaits_drain = False
            self.touch()

    def destroy(self) -> None:
        """Closes at once, or resets if the kernel does not take what is written (rule K5)."""
        over = self.is_over()
        if not self.stopped and not over:
            self.send_pending()
            lost = bool(self.pending) or self.fed or self.connecting
            if lost and not self.failure:
                self.send_reset()
        self._leave()

    def reset(self) -> None:
        """Discards what is written, and sends RST."""
        if not self.stopped and not self.is_over():
            self.send_reset()
        self._leave()

    def _leave(self) -> None:
        self.destroyed = True
        self.discard()
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

    def expect_no_drain(self) -> None:
        """A pipe has the sending direction."""
        self.awaits_drain = False

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

    def give_up_connecting(self) -> None:
        """Connecting has taken too long."""
        if self.connecting and not self.stopped:
            self.send_reset()
            self.fail(codes.error_code("timeout"))

    def settle(self) -> None:
        """Sends what is due, and delivers one event if one is due."""
        self.queued = False
        if self.owner.dead or self._reported is Reported.CLOSE:
            return
        if self.sink is not None:
            pump(self, self.owner.reactor.buffer)
        if not self._deliver_next():
            self.send_pending()
            if not self._deliver_next():
                self.watch()

    def _deliver_next(self) -> bool:
        owner, number = self.owner, self.number
        if not self._begun and not self.connecting and not self.stopped:
            self._begun = True
            owner.call("connection", number, self)
        elif not self.stopped and self.awaits_drain and not self.pending:
            self.awaits_drain = False
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
        elif self._reported is Reported.NOTHING and self.failure and not self.destroyed:
            self._reported = Reported.ERROR
            owner.call_error(number, self.failure, self)
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
        if self.reads or (self.may_read() and not self.paused and not self.piped):
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

    def drop(self) -> None:
        """The instance has ended: the connection is reset, and has no more events."""
        self._reported, self.reads = Reported.CLOSE, False
        self.send_reset()
        self.discard()
        if self.idle is not None:
            self.idle.close()

    def _close(self) -> None:
        """Closes gently, or at once if both directions have ended or failed (rule C2)."""
        if self.idle is not None:
            self.idle.close()
        connection, self.sock = self.sock, None
        if connection is None:
            return
        self.owner.reactor.unregister(connection.fileno())
        try:
            if not self.failure and self.sending is not Sending.FINISHED:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            self.failure = codes.error_code("connection-broken")
        if self.failure or self.receiving is not Receiving.OPEN:
            connection.close()
            self.owner.socket_ended(self)
        else:
            self.owner.linger(self, connection)
