"""What a server is started with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from halfopen.tcp.policy import Rule

#: Whether each connection has an instance of its own, or all share one.
Isolation = Literal["connection", "shared"]


@dataclass(frozen=True)
class Settings:
    """The limits and grants of a server. A limit of 0 is none."""

    #: The arguments of the service.
    arguments: Sequence[str] = ()
    #: The environment variables of the service.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: `None` follows what the component declares, or else is `connection`.
    isolation: Isolation | None = None
    #: How many connections may be open. Further ones wait in the backlog.
    max_connections: int = 4096
    #: How many bytes of memory an instance may have, and as many again to be sent.
    max_memory: int = 256 << 20
    #: For how many seconds an event may compute.
    max_compute: float = 10
    #: After how many seconds without a byte a connection is reset.
    idle_timeout: float = 600
    #: For how many seconds a service may connect.
    connect_timeout: float = 10
    #: How many seconds open connections have to finish, once the server is asked to stop.
    grace: float = 10
    #: Where the service may connect to.
    allow_connect: Sequence[Rule] = ()
    #: Whether compiled code may be kept in wasmtime's cache.
    cache: bool = True
