"""Compiles modules, and ends calls that compute for too long."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

from wasmtime import Config, Engine, Module, WasmtimeError

from halfopen.errors import InvalidComponent
from halfopen.wasm import api


class Compiler:
    """Compiles modules; its stores run them.

    `max_compute` is how many seconds a call may take, or 0. A thread watches the calls. It can,
    because ctypes releases Python's lock during a call.
    """

    def __init__(self, max_compute: float = 0, cache: bool = True) -> None:
        config = Config()
        # A memory keeps its address, so that a view of it stays right while it grows.
        config.memory_may_move = False
        config.epoch_interruption = max_compute > 0
        if cache and _cache_is_private():
            try:
                config.cache = True
            except WasmtimeError:
                pass
        self.engine = Engine(config)
        self.max_compute = max_compute
        #: Odd while a call is under way: each begin and each end adds 1.
        self.calls = 0
        self._overdue = -1
        # ctypes does not keep what C keeps.
        self._deadline = api.DeadlineCallback(self._deadline_passed)
        self._stop = threading.Event()
        if max_compute > 0:
            threading.Thread(target=self._watch, name="halfopen-compute", daemon=True).start()

    def compile(self, code: bytes) -> Module:
        """Compiles a core module. Raises `InvalidComponent`."""
        try:
            return Module(self.engine, code)
        except WasmtimeError as error:
            message = str(error).strip().splitlines()
            raise InvalidComponent(f"a core module is not valid: {message[-1].strip()}") from None

    def watch(self, store: int) -> None:
        """Lets the calls of a store end when they take too long."""
        if self.max_compute > 0:
            api.set_deadline_callback(store, self._deadline, None, None)
            api.set_deadline(api.store_context(store), 1)

    def close(self) -> None:
        """Ends the thread that watches."""
        self._stop.set()

    def _watch(self) -> None:
        seen, since = 0, 0.0
        while not self._stop.wait(self.max_compute / 8):
            calls = self.calls
            if calls % 2 == 0 or calls != seen:
                seen, since = calls, time.monotonic()
            elif time.monotonic() - since >= self.max_compute:
                self._overdue = calls
                self.engine.increment_epoch()

    def _deadline_passed(self, _context: int, _data: int, delta: object, kind: object) -> int:
        """Decides, in the thread of the call: the epoch counts for all stores."""
        if self.calls == self._overdue:
            message = f"it computed for {self.max_compute:g} s without waiting"
            return int(api.new_error(message.encode()))
        delta[0] = 1  # type: ignore[index]
        kind[0] = 0  # type: ignore[index]
        return 0


def _cache_is_private() -> bool:
    """Whether nobody else can put code into wasmtime's cache, or a folder above it."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        return False
    folder = Path(base, "wasmtime")
    for one in (folder, *folder.parents):
        try:
            status = one.stat()
        except FileNotFoundError:
            continue
        except OSError:
            return False
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        sticky = status.st_mode & stat.S_ISVTX and one != folder
        if status.st_uid not in (0, os.getuid()) or (writable and not sticky):
            return False
    return True
