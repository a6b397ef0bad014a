"""Timers, on the interface `halfopen:tcp/timers`.

A service that uses them imports `TimerEvents` from here as well, and wit/service.wit has the two
lines about them.
"""

import traceback
from collections.abc import Callable

from wit_world.imports import timers as host

_calls: dict[int, tuple[Callable[[], None], bool]] = {}


def set_timer(call: Callable[[], None], seconds: float) -> int:
    """Calls a function once after this time, and returns the timer."""
    return _started(host.set_timer(round(seconds * 1000)), call, once=True)


def set_interval(call: Callable[[], None], seconds: float) -> int:
    """Calls a function again and again, and returns the timer."""
    return _started(host.set_interval(round(seconds * 1000)), call, once=False)


def clear(timer: int) -> None:
    """Ends a timer: it calls nothing any more."""
    host.clear(timer)
    _calls.pop(timer, None)


def _started(timer: int, call: Callable[[], None], once: bool) -> int:
    if timer == 0:
        raise RuntimeError("too many timers")
    _calls[timer] = (call, once)
    return timer


class TimerEvents:
    """What the host calls."""

    def fired(self, timer: int) -> None:
        call, once = _calls.get(timer, (None, False))
        if call is None:
            return
        if once:
            del _calls[timer]
        try:
            call()
        except Exception:
            traceback.print_exc()
