"""The timers of an instance (rule K13)."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable

from halfopen.tcp.reactor import Alarm, Reactor

#: How many timers an instance may have.
MOST = 10_000


class Timers:
    """Timers by number. `fired` is called with the number of each whose time has come."""

    def __init__(self, reactor: Reactor, fired: Callable[[int], None]) -> None:
        self._reactor, self._fired = reactor, fired
        #: When each timer fires, and with which period if it repeats.
        self._timers: dict[int, tuple[float, float]] = {}
        self._heap: list[tuple[float, int]] = []
        self._last = 0
        self._alarm: Alarm | None = None

    def __len__(self) -> int:
        return len(self._timers)

    def set(self, milliseconds: int, repeats: bool) -> int:
        """Sets a timer, and returns its number; 0 if there are too many."""
        if len(self._timers) >= MOST:
            return 0
        period = max(milliseconds, 1) / 1000 if repeats else 0.0
        when = time.monotonic() + (period or milliseconds / 1000)
        number = self._number()
        self._timers[number] = when, period
        if len(self._heap) > 2 * MOST:
            # Those that were cleared: a service may set and clear as often as it likes.
            self._heap = [(when, one) for one, (when, _) in self._timers.items() if one != number]
            heapq.heapify(self._heap)
        self._push(when, number)
        return number

    def clear(self, number: int) -> None:
        """Ends a timer, if there is one of this number."""
        self._timers.pop(number, None)

    def close(self) -> None:
        """Ends all timers."""
        self._timers.clear()
        self._heap.clear()
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None

    def _number(self) -> int:
        # After four thousand million the numbers begin again, and leave out those in use.
        while True:
            self._last = (self._last + 1) & 0xFFFFFFFF
            if self._last and self._last not in self._timers:
                return self._last

    def _push(self, when: float, number: int) -> None:
        heapq.heappush(self._heap, (when, number))
        if self._alarm is None or self._alarm.when > when:
            self._schedule()

    def _schedule(self) -> None:
        if self._alarm:
            self._alarm.cancel()
        self._alarm = self._reactor.alarm(self._heap[0][0], self._ring) if self._heap else None

    def _ring(self) -> None:
        self._alarm = None
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            when, number = heapq.heappop(self._heap)
            timer = self._timers.get(number)
            if timer is None or timer[0] != when:
                continue
            if period := timer[1]:
                # Calls that were missed are left out.
                following = when + period * (int((now - when) / period) + 1)
                self._timers[number] = following, period
                heapq.heappush(self._heap, (following, number))
            else:
                del self._timers[number]
            self._fired(number)
        if self._alarm is None:
            self._schedule()
