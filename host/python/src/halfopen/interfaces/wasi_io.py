"""`wasi:io@0.2`: streams that never wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from halfopen.errors import Trapped

if TYPE_CHECKING:
    from halfopen.instance import Instance

#: How much one write may have, as `check-write` says.
MOST_WRITTEN = 1 << 20

_OK = ("ok", None)
_CLOSED = ("err", ("closed", None))


class Printer(Protocol):
    """Takes what a service prints."""

    def write(self, data: bytes) -> None:
        """Prints, or drops what there is no room for."""


class OutputStream:
    """A stream on which a service prints."""

    def __init__(self, printer: Printer) -> None:
        self.printer = printer


class InputStream:
    """A stream that has ended."""


class Pollable:
    """Something that is ready."""


def _write(_instance: Instance, stream: OutputStream, data: bytes) -> Any:
    if len(data) > MOST_WRITTEN:
        raise Trapped("the service wrote more than it may at once")
    stream.printer.write(data)
    return _OK


def _write_zeroes(_instance: Instance, stream: OutputStream, length: int) -> Any:
    if length > MOST_WRITTEN:
        raise Trapped("the service wrote more than it may at once")
    stream.printer.write(bytes(length))
    return _OK


def _flush(_instance: Instance, _stream: OutputStream) -> Any:
    return _OK


def _pollable(_instance: Instance, _of: object) -> Pollable:
    return Pollable()


def _closed(_instance: Instance, *_arguments: object) -> Any:
    return _CLOSED


def _poll(_instance: Instance, pollables: Sequence[Pollable]) -> list[int]:
    if not pollables:
        raise Trapped("the service polled nothing")
    return list(range(len(pollables)))


INTERFACES: dict[str, dict[str, Callable[..., Any]]] = {
    "wasi:io/error": {"[method]error.to-debug-string": lambda _instance, _error: "an error"},
    "wasi:io/poll": {
        "[method]pollable.ready": lambda _instance, _pollable: True,
        "[method]pollable.block": lambda _instance, _pollable: None,
        "poll": _poll,
    },
    "wasi:io/streams": {
        "[method]input-stream.read": _closed,
        "[method]input-stream.blocking-read": _closed,
        "[method]input-stream.skip": _closed,
        "[method]input-stream.blocking-skip": _closed,
        "[method]input-stream.subscribe": _pollable,
        "[method]output-stream.check-write": lambda _instance, _stream: ("ok", MOST_WRITTEN),
        "[method]output-stream.write": _write,
        "[method]output-stream.blocking-write-and-flush": _write,
        "[method]output-stream.flush": _flush,
        "[method]output-stream.blocking-flush": _flush,
        "[method]output-stream.subscribe": _pollable,
        "[method]output-stream.write-zeroes": _write_zeroes,
        "[method]output-stream.blocking-write-zeroes-and-flush": _write_zeroes,
        "[method]output-stream.splice": _closed,
        "[method]output-stream.blocking-splice": _closed,
    },
}
