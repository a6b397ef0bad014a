"""The functions of wasmtime's C API that are called for every event, or that wasmtime-py does
not pass on.

wasmtime-py converts each argument of a call by its type, which takes several microseconds. The
functions here take addresses, and the core values of a call lie in an array (`Cells`). That is
why this package depends on one release series of wasmtime-py.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from typing import Any

from wasmtime import Trap
from wasmtime import _ffi as ffi

_library = ctypes.CDLL(str(ffi.filename))

#: A core value takes 16 bytes in an array of arguments and results.
CELL = 16
WORDS = CELL // 4

#: A function of the host: it gets the address of its arguments, which it replaces by its
#: results, and returns a trap or 0.
Callback = ctypes.CFUNCTYPE(
    c_size_t, c_void_p, c_void_p, POINTER(c_uint32 * (17 * WORDS)), c_size_t
)

#: Called when the time of a call is over.
DeadlineCallback = ctypes.CFUNCTYPE(
    c_size_t, c_void_p, c_void_p, POINTER(c_uint64), POINTER(c_uint8)
)


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_library, name)
    function.restype, function.argtypes = result, arguments
    return function


call = _function(
    "wasmtime_func_call_unchecked", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p
)
new_function = _function(
    "wasmtime_func_new_unchecked", None, c_void_p, c_void_p, Callback, c_void_p, c_void_p, c_void_p
)
new_instance = _function(
    "wasmtime_instance_new", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p
)
instance_export = _function(
    "wasmtime_instance_export_get", ctypes.c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_void_p
)
memory_data = _function("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
memory_size = _function("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
new_store = _function("wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
delete_store = _function("wasmtime_store_delete", None, c_void_p)
store_context = _function("wasmtime_store_context", c_void_p, c_void_p)
limit_store = _function(
    "wasmtime_store_limiter", None, c_void_p, c_int64, c_int64, c_int64, c_int64, c_int64
)
set_deadline = _function("wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
set_deadline_callback = _function(
    "wasmtime_store_epoch_deadline_callback",
    None,
    c_void_p,
    DeadlineCallback,
    c_void_p,
    c_void_p,
)
_new_trap = _function("wasmtime_trap_new", c_size_t, c_char_p, c_size_t)
new_error = _function("wasmtime_error_new", c_size_t, c_char_p)


def address(pointer: Any) -> int:
    """Returns the address in a pointer of wasmtime-py."""
    return ctypes.cast(pointer, c_void_p).value or 0


def new_trap(message: str) -> int:
    """Makes a trap, for a function of the host to return."""
    data = message.encode()
    return int(_new_trap(data, len(data)))


def trap_message(trap: int) -> str:
    """Returns why a trap happened, and frees it."""
    pointer = ctypes.cast(trap, POINTER(ffi.wasm_trap_t))
    return _cause(Trap._from_ptr(pointer).message)


def error_message(error: int) -> str:
    """Returns what an error says, and frees it."""
    pointer = ctypes.cast(error, POINTER(ffi.wasmtime_error_t))
    text = ffi.wasm_name_t()
    ffi.wasmtime_error_message(pointer, ctypes.byref(text))
    message = ffi.to_str(text)
    ffi.wasm_byte_vec_delete(ctypes.byref(text))
    ffi.wasmtime_error_delete(pointer)
    return _cause(message)


def _cause(message: str) -> str:
    """Returns the last cause that a message names; a backtrace comes before it."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    cause = lines[-1] if lines else "for an unknown reason"
    number, colon, rest = cause.partition(": ")
    return rest if colon and number.isdigit() else cause


Extern = ffi.wasmtime_extern_t
Function = ffi.wasmtime_func_t
Instance = ffi.wasmtime_instance_t
FUNCTION_KIND: int = ffi.WASMTIME_EXTERN_FUNC.value
MEMORY_KIND: int = ffi.WASMTIME_EXTERN_MEMORY.value
