"""Limits the lines of the log that peers and services can cause as often as they like."""

from __future__ import annotations

import time

#: How many lines may come at once, and how many in a minute.
MOST = 10
MINUTE = 60.0


class Noise:
    """Lines of one kind."""

    def __init__(self) -> None:
        self._left = float(MOST)
        self._since = time.monotonic()
        self._dropped = 0

    def admits(self) -> bool:
        """Whether another line may be logged."""
        now = time.monotonic()
        self._left = min(MOST, self._left + (now - self._since) * MOST / MINUTE)
        self._since = now
        if self._left < 1:
            self._dropped += 1
            return False
        self._left -= 1
        return True

    def take_dropped(self) -> str:
        """Returns words for a line, about those that were dropped before it."""
        dropped, self._dropped = self._dropped, 0
        return f" ({dropped} such lines before this one were dropped)" if dropped else ""
