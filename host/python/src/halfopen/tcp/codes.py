"""The error codes of `halfopen:tcp/types`, by the numbers of the operating system."""

from __future__ import annotations

import errno
import os

#: A value of the variant `error-code`: its case and its payload.
ErrorCode = tuple[str, object]

_CASES = {
    errno.EACCES: "access-denied",
    errno.EPERM: "access-denied",
    errno.EOPNOTSUPP: "not-supported",
    errno.EINVAL: "invalid-argument",
    errno.EDESTADDRREQ: "invalid-argument",
    errno.EAFNOSUPPORT: "invalid-argument",
    errno.ENOMEM: "out-of-memory",
    errno.ENOBUFS: "out-of-memory",
    errno.ETIMEDOUT: "timeout",
    errno.ENOTCONN: "invalid-state",
    errno.EISCONN: "invalid-state",
    errno.EALREADY: "invalid-state",
    errno.EADDRNOTAVAIL: "address-not-bindable",
    errno.EADDRINUSE: "address-in-use",
    errno.EHOSTUNREACH: "remote-unreachable",
    errno.ENETUNREACH: "remote-unreachable",
    errno.ENETDOWN: "remote-unreachable",
    errno.EHOSTDOWN: "remote-unreachable",
    errno.ENONET: "remote-unreachable",
    errno.ECONNREFUSED: "connection-refused",
    errno.EPIPE: "connection-broken",
    errno.ECONNRESET: "connection-reset",
    errno.ECONNABORTED: "connection-aborted",
    errno.EMSGSIZE: "datagram-too-large",
}


def error_code(case: str) -> ErrorCode:
    """Returns the value of a case without a payload."""
    return case, None


def from_number(number: int | None) -> ErrorCode:
    """Returns the value for an `errno`."""
    if number in _CASES:
        return _CASES[number], None
    return "other", os.strerror(number) if number else None
