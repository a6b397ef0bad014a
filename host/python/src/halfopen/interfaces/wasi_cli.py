"""`wasi:cli@0.2`: arguments, the standard streams, and no terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from halfopen.errors import Trapped
from halfopen.interfaces.wasi_io import InputStream, OutputStream

if TYPE_CHECKING:
    from halfopen.instance import Instance


def _exit(_instance: Instance, status: tuple[str, None]) -> None:
    raise Trapped(f"the service called exit, with {status[0]}")


def _none(_instance: Instance) -> None:
    """There is none."""


INTERFACES: dict[str, dict[str, Callable[..., Any]]] = {
    "wasi:cli/environment": {
        "get-arguments": lambda instance: ["service", *instance.settings.arguments],
        "get-environment": lambda instance: list(instance.settings.environment.items()),
        "initial-cwd": _none,
    },
    "wasi:cli/exit": {"exit": _exit},
    "wasi:cli/stdin": {"get-stdin": lambda _instance: InputStream()},
    "wasi:cli/stdout": {"get-stdout": lambda instance: OutputStream(instance.stdout)},
    "wasi:cli/stderr": {"get-stderr": lambda instance: OutputStream(instance.stderr)},
    "wasi:cli/terminal-stdin": {"get-terminal-stdin": _none},
    "wasi:cli/terminal-stdout": {"get-terminal-stdout": _none},
    "wasi:cli/terminal-stderr": {"get-terminal-stderr": _none},
    "wasi:cli/terminal-input": {},
    "wasi:cli/terminal-output": {},
}
