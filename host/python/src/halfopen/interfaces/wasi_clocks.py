"""`wasi:clocks@0.2`: the time. Nothing waits for it: a service has timers for that."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from halfopen.errors import Trapped


def _wait(_instance: object, _time: int) -> None:
    raise Trapped("the service waited for a time; in callback style it sets a timer instead")


INTERFACES: dict[str, dict[str, Callable[..., Any]]] = {
    "wasi:clocks/monotonic-clock": {
        "now": lambda _instance: time.monotonic_ns(),
        "resolution": lambda _instance: 1,
        "subscribe-instant": _wait,
        "subscribe-duration": _wait,
    },
    "wasi:clocks/wall-clock": {
        "now": lambda _instance: divmod(time.time_ns(), 1_000_000_000),
        "resolution": lambda _instance: (0, 1),
    },
}
