"""Methods of things that no service has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from halfopen.errors import Trapped


class Unreachable(dict[str, Callable[..., Any]]):
    """Functions, and beside them every method: there is nothing to call it with."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).startswith("[method]")

    def __missing__(self, name: str) -> Callable[..., Any]:
        return _nothing


def _nothing(*_arguments: object) -> None:
    raise Trapped("the service used something that it does not have")
