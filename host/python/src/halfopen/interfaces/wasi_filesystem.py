"""`wasi:filesystem@0.2`: a service has no files, so nothing here can be called with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from halfopen.errors import Trapped


class _Unreachable(Mapping[str, Callable[..., Any]]):
    """Methods of descriptors, of which there are none."""

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if not name.startswith(("[method]", "filesystem-error-code")):
            raise KeyError(name)
        if name == "filesystem-error-code":
            return lambda _instance, _error: None
        return _no_descriptor

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.startswith(("[method]", "filesystem-error-code"))


def _no_descriptor(*_arguments: object) -> None:
    raise Trapped("the service used a file that it does not have")


INTERFACES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "wasi:filesystem/preopens": {"get-directories": lambda _instance: []},
    "wasi:filesystem/types": _Unreachable(),
}
