"""Prints lines of services without ever waiting for who reads them."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

#: A line longer than this is broken.
LONGEST_LINE = 64 << 10

#: How many bytes may wait for a reader. What exceeds them is dropped.
MOST_WAITING = 1 << 20

#: How long the end waits for a reader, in seconds.
PATIENCE = 1.0

#: Takes a line, with its line end.
Printer = Callable[[bytes], None]


@dataclass(frozen=True)
class Output:
    """Where the lines go that services print."""

    stdout: Printer
    stderr: Printer


class Lines:
    """Makes lines of what one instance prints on one stream."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Prints the lines that are complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._printer(line + b"\n")
        while len(self._rest) >= LONGEST_LINE:
            self._printer(self._rest[:LONGEST_LINE] + b"\n")
            self._rest = self._rest[LONGEST_LINE:]

    def close(self) -> None:
        """Prints what is left as a line."""
        if self._rest:
            self._printer(self._rest + b"\n")
            self._rest = b""


class Writer:
    """Writes lines to a descriptor, in a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="halfopen-output", daemon=True)
        self._thread.start()

    def __call__(self, line: bytes) -> None:
        """Writes a line as soon as possible, or drops it if too many wait."""
        with self._lock:
            if self._waiting + len(line) > MOST_WAITING:
                self._dropped += 1
                return
            self._waiting += len(line)
        self._queue.put(line)

    def close(self) -> None:
        """Waits until everything is written, for a moment."""
        self._queue.put(None)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        ended = False
        while not ended:
            lines = [self._queue.get()]
            while not self._queue.empty() and len(lines) < 1000:
                lines.append(self._queue.get())
            ended = lines[-1] is None
            data = b"".join(line for line in lines if line is not None)
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                data += b"halfopen: %d lines were dropped, because nobody read them\n" % dropped
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                # The reader has gone.
                pass
            with self._lock:
                self._waiting -= sum(len(line) for line in lines if line is not None)
