"""The core values of a call, in the array in which C has them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from halfopen.wasm import api

_F32, _F64 = struct.Struct("<f"), struct.Struct("<d")


def read_core(cells: Any, types: Sequence[str]) -> Iterator[int | float]:
    """Reads core values of these types."""
    for at, kind in enumerate(types):
        low, high = cells[at * api.WORDS], cells[at * api.WORDS + 1]
        if kind == "i32":
            yield low
        elif kind == "i64":
            yield low | high << 32
        elif kind == "f32":
            yield _F32.unpack(low.to_bytes(4, "little"))[0]
        else:
            yield _F64.unpack((low | high << 32).to_bytes(8, "little"))[0]


def write_core(cells: Any, at: int, kind: str, value: int | float) -> None:
    """Writes one core value; `at` is its place among the values."""
    if kind == "f32":
        value = int.from_bytes(_F32.pack(value), "little")
    elif kind == "f64":
        value = int.from_bytes(_F64.pack(value), "little")
    number = int(value)
    cells[at * api.WORDS] = number & 0xFFFFFFFF
    cells[at * api.WORDS + 1] = number >> 32 & 0xFFFFFFFF
