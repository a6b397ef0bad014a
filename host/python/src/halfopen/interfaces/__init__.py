"""The interfaces that the host has for a service, by their names without a version.

Each function gets the instance that calls, and the arguments as `component.values` describes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from halfopen.errors import Unsupported
from halfopen.interfaces import (
    sockets,
    wasi_cli,
    wasi_clocks,
    wasi_filesystem,
    wasi_io,
    wasi_random,
    wasi_sockets,
)

#: A function of the host.
Implementation = Callable[..., Any]

INTERFACES: Mapping[str, Mapping[str, Implementation]] = {
    **sockets.INTERFACES,
    **wasi_cli.INTERFACES,
    **wasi_clocks.INTERFACES,
    **wasi_filesystem.INTERFACES,
    **wasi_io.INTERFACES,
    **wasi_random.INTERFACES,
    **wasi_sockets.INTERFACES,
}

#: The versions that the functions above are of, by the names of packages.
_VERSIONS = {"halfopen:tcp": "0.1.", "wasi": "0.2."}


def find(interface: str, function: str) -> Implementation:
    """Returns a function of the host. Raises `Unsupported`, which names the interface."""
    name, _, version = interface.partition("@")
    package = name.partition("/")[0]
    expected = _VERSIONS.get(package) or _VERSIONS.get(package.partition(":")[0], "")
    functions = INTERFACES.get(name)
    if functions is None or not version.startswith(expected):
        raise Unsupported(f"it imports `{interface}`, which this host does not have")
    if function not in functions:
        raise Unsupported(
            f"it imports `{function}` of `{interface}`, which this host does not have"
        )
    return functions[function]
