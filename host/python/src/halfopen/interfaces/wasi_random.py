"""`wasi:random@0.2`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from halfopen.errors import Trapped

#: How many random bytes a service may ask for at once.
MOST = 1 << 20


def _bytes(_instance: object, length: int) -> bytes:
    if length > MOST:
        raise Trapped(f"the service asked for {length} random bytes at once")
    return os.urandom(length)


def _number(_instance: object) -> int:
    return int.from_bytes(os.urandom(8), "little")


INTERFACES: dict[str, dict[str, Callable[..., Any]]] = {
    "wasi:random/random": {"get-random-bytes": _bytes, "get-random-u64": _number},
    "wasi:random/insecure": {
        "get-insecure-random-bytes": _bytes,
        "get-insecure-random-u64": _number,
    },
    "wasi:random/insecure-seed": {
        "insecure-seed": lambda _instance: (random.getrandbits(64), random.getrandbits(64))
    },
}
