"""Pipes between the connections of an instance (rule K15).

The source of a pipe has a `sink`, whose `source` it is; while the pipe sends, the sink is `fed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfopen.tcp import codes

if TYPE_CHECKING:
    from halfopen.tcp.connection import Connection
    from halfopen.tcp.transfer import Transfer

#: How many chunks a pipe moves while others wait.
TURN = 8


def pipe(source: Connection | None, sink: Connection | None) -> bool:
    """Begins a pipe; returns whether that is possible."""
    if source is None or sink is None or not source.may_pipe or not sink.can_write:
        return False
    source.piped, source.sink = True, sink
    sink.fed, sink.source = True, source
    sink.expect_no_drain()
    source.touch()
    return True


def _is_gone(sink: Transfer) -> bool:
    return not sink.fed or sink.stopped


def may_pump(source: Transfer) -> bool:
    """Whether the source may receive for its pipe."""
    sink = source.sink
    if sink is None or source.paused or source.connecting or source.stopped:
        return False
    waits = not _is_gone(sink) and (sink.pending or sink.connecting)
    return not waits and source.receives


def pump(source: Connection, buffer: memoryview) -> None:
    """Moves what there is from a source to its sink. Once the sink has gone, it is discarded."""
    for _ in range(TURN):
        sink = source.sink
        if sink is None:
            return
        gone = _is_gone(sink)
        if source.stopped:
            _unpipe(source, sink)
            if not gone:
                # The data is truncated.
                sink.abort(codes.error_code("connection-aborted"))
            return
        if source.paused or (not gone and (sink.pending or sink.connecting)):
            return
        if source.held is not None:
            data, source.held = memoryview(source.held), None
        elif source.receives:
            length = source.receive_into(buffer)
            if length is None:
                return
            if not length:
                continue
            data = buffer[:length]
        else:
            _unpipe(source, sink)
            if not gone:
                source.half_open = True
                sink.end()
            source.touch()
            return
        if not gone:
            sink.offer(data)
    source.touch()


def _unpipe(source: Connection, sink: Connection) -> None:
    source.piped, source.sink = False, None
    sink.fed, sink.source = False, None
