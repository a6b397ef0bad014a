"""`wasi:sockets@0.2`: nothing is granted. A service has its connections from `halfopen:tcp`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from halfopen.interfaces.unreachable import Unreachable


class Network:
    """The network, of which nothing is granted."""


def _denied(_instance: object, *_arguments: object) -> Any:
    return "err", "access-denied"


INTERFACES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "wasi:sockets/network": {},
    "wasi:sockets/instance-network": {"instance-network": lambda _instance: Network()},
    "wasi:sockets/tcp-create-socket": {"create-tcp-socket": _denied},
    "wasi:sockets/udp-create-socket": {"create-udp-socket": _denied},
    "wasi:sockets/ip-name-lookup": Unreachable({"resolve-addresses": _denied}),
    "wasi:sockets/tcp": Unreachable({}),
    "wasi:sockets/udp": Unreachable({}),
}
