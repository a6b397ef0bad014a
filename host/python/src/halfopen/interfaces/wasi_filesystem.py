"""`wasi:filesystem@0.2`: a service has no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from halfopen.interfaces.unreachable import Unreachable

INTERFACES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "wasi:filesystem/preopens": {"get-directories": lambda _instance: []},
    "wasi:filesystem/types": Unreachable({"filesystem-error-code": lambda _instance, _error: None}),
}
