"""Waits for sockets and alarms, within an asyncio loop.

The reactor has an epoll descriptor of its own, which the loop watches like any other. One turn
of the loop then serves many sockets, and a socket that waits for nothing can still be watched
for a reset, which asyncio's own `add_reader` cannot.
"""

from __future__ import annotations

import asyncio
import heapq
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

#: How much is received at once.
LARGEST_CHUNK = 256 << 10

#: How many sockets one turn serves, and how many events it delivers beside their data.
MOST_READY = 256
MOST_SETTLED = 1024


#: From how many alarms on those that are cancelled are looked for.
PURGE = 1024


class Settles(Protocol):
    """Something that has to look at its state, because a call has changed it."""

    def settle(self) -> None:
        """Does what is due."""


class Alarm:
    """A time at which something is called, once."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Does not call any more."""
        self.call = None

    def __lt__(self, other: Alarm) -> bool:
        return self.when < other.when


class Reactor:
    """The sockets and alarms of one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        #: What has to settle before the next turn.
        self.unsettled: deque[Settles] = deque()
        self._alarms: list[Alarm] = []
        self._purge_at = PURGE
        self._wake: asyncio.TimerHandle | None = None
        self._scheduled = False
        self.modify = self._epoll.modify
        #: Where data lies on its way to an instance. A large chunk costs fewer calls for each
        #: byte, and wakes its peer less often.
        self.buffer = memoryview(bytearray(LARGEST_CHUNK))
        loop.add_reader(self._epoll.fileno(), self._turn)

    def register(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """Calls a handler with the events of a descriptor. Errors and hang-ups always count."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def unregister(self, descriptor: int) -> None:
        """Forgets a descriptor, before it is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def alarm(self, when: float, call: Callable[[], None]) -> Alarm:
        """Calls something at a time of `time.monotonic()`, or as soon as possible after it."""
        if len(self._alarms) >= self._purge_at:
            self._purge()
        alarm = Alarm(when, call)
        heapq.heappush(self._alarms, alarm)
        if self._alarms[0] is alarm:
            self._schedule_alarm()
        return alarm

    def schedule(self) -> None:
        """Lets what is unsettled settle in a turn of the loop, if none is under way."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._scheduled_turn)

    def schedule_close(self) -> None:
        """Ends the reactor after the turn that is under way."""
        self._loop.call_soon(self.close)

    def close(self) -> None:
        """Ends the reactor. Its sockets are closed by then."""
        if self._epoll.closed:
            return
        if self._wake:
            self._wake.cancel()
        self._alarms.clear()
        self.unsettled.clear()
        self._handlers.clear()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _turn(self) -> None:
        if self._alarms:
            self._ring()
        handlers = self._handlers
        for descriptor, events in self._epoll.poll(0, MOST_READY):
            # An event before may have closed the socket.
            handler = handlers.get(descriptor)
            if handler is not None:
                handler(events)
        if self.unsettled:
            self._settle()

    def _scheduled_turn(self) -> None:
        self._scheduled = False
        if not self._epoll.closed:
            self._settle()

    def _settle(self) -> None:
        unsettled = self.unsettled
        for _ in range(MOST_SETTLED):
            if not unsettled:
                return
            unsettled.popleft().settle()
        self.schedule()

    def _ring(self) -> None:
        now = time.monotonic()
        while (alarms := self._alarms) and (alarms[0].call is None or alarms[0].when <= now):
            call = heapq.heappop(alarms).call
            if call is not None:
                call()
        if self._alarms:
            self._schedule_alarm()

    def _purge(self) -> None:
        """Forgets what is cancelled: a service may set and cancel as often as it likes."""
        self._alarms = [one for one in self._alarms if one.call is not None]
        heapq.heapify(self._alarms)
        self._purge_at = max(PURGE, 2 * len(self._alarms))

    def _schedule_alarm(self) -> None:
        if self._wake:
            self._wake.cancel()
        self._wake = self._loop.call_at(self._alarms[0].when, self._alarm_turn)

    def _alarm_turn(self) -> None:
        self._wake = None
        if not self._epoll.closed:
            self._ring()
            self._settle()
