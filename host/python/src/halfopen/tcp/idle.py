"""The idle time of a connection (rule K14)."""

from __future__ import annotations

import time
from collections.abc import Callable

from halfopen.tcp.reactor import Alarm, Reactor


class Idle:
    """How long a connection has neither received nor sent data.

    Data moves more often than a limit passes, so moving data changes no alarm. `passed` is
    called when the alarm rings and the limit may have passed; `take` then tells.
    """

    __slots__ = ("_alarm", "_limit", "_passed", "_reactor", "_reported", "_since")

    def __init__(self, reactor: Reactor, passed: Callable[[], None]) -> None:
        self._reactor, self._passed = reactor, passed
        self._limit = self._since = 0.0
        self._reported = False
        self._alarm: Alarm | None = None

    def set(self, milliseconds: int) -> None:
        """Sets the limit, from now on; 0 is none."""
        self._limit = milliseconds / 1000
        self.moved()
        self._attend()

    def moved(self) -> None:
        """Records that data was received or sent."""
        self._since = time.monotonic()
        if self._reported:
            self._reported = False
            self._attend()

    def take(self) -> bool:
        """Whether the limit has passed, and that has not been reported."""
        if not self._limit or self._reported:
            return False
        if time.monotonic() < self._since + self._limit:
            self._attend()
            return False
        self._reported = True
        return True

    def close(self) -> None:
        """Rings no more."""
        self._limit = 0.0
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None

    def _attend(self) -> None:
        passes = self._since + self._limit
        if not self._limit or self._reported or (self._alarm and self._alarm.when <= passes):
            return
        if self._alarm:
            self._alarm.cancel()
        self._alarm = self._reactor.alarm(passes, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._passed()
