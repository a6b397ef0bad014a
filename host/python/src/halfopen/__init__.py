"""Serves halfopen services: TCP servers that are WebAssembly components in callback style.

>>> server = await halfopen.serve("echo.wasm", port=1234)
>>> await server.wait_closed()
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from os import PathLike, fspath

from halfopen.errors import HalfopenError, InvalidComponent, ListenError, Unsupported
from halfopen.output import Output, Printer
from halfopen.server import Server, listen
from halfopen.service import Service
from halfopen.settings import Isolation, Settings
from halfopen.tcp.policy import Rule

__version__ = "0.1.0"

__all__ = [
    "HalfopenError",
    "InvalidComponent",
    "Isolation",
    "ListenError",
    "Server",
    "Settings",
    "Unsupported",
    "serve",
]


def _stdout(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _stderr(line: bytes) -> None:
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()


async def serve(
    component: str | PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 1234,
    listen_on: Sequence[str] = (),
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    isolation: Isolation | None = None,
    max_connections: int = 4096,
    max_memory: int = 256 << 20,
    max_compute: float = 10,
    idle_timeout: float = 600,
    connect_timeout: float = 10,
    grace: float = 10,
    allow_connect: Sequence[str] = (),
    cache: bool = True,
    stdout: Printer = _stdout,
    stderr: Printer = _stderr,
) -> Server:
    """Serves a component, and returns once the server listens.

    The server listens on `host` and `port`, or on all addresses of `listen_on`, such as
    `["127.0.0.1:80", "[::1]:80"]`; port 0 is any free one. `stdout` and `stderr` get each line
    that the service prints. `Settings` explains the limits. Raises `HalfopenError`.
    """
    settings = Settings(
        arguments=tuple(arguments),
        environment=dict(environment or {}),
        isolation=isolation,
        max_connections=max_connections,
        max_memory=max_memory,
        max_compute=max_compute,
        idle_timeout=idle_timeout,
        connect_timeout=connect_timeout,
        grace=grace,
        allow_connect=tuple(Rule.parse(rule) for rule in allow_connect),
        cache=cache,
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    service = await asyncio.to_thread(Service.load, fspath(component), settings)
    listeners = []
    try:
        for one in listen_on or [address]:
            listeners.append(listen(one))
        return Server(service, listeners, Output(stdout, stderr))
    except BaseException:
        for listener in listeners:
            listener.close()
        service.close()
        raise
