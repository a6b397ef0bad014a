"""Connections as objects, on the interfaces `halfopen:tcp/sockets` and `halfopen:tcp/events`."""

import sys
import traceback
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from componentize_py_types import Err
from wit_world.imports import environment, sockets, types

# Lines are printed when they are complete.
sys.stdout.reconfigure(line_buffering=True)

_NAMES = {
    types.ErrorCode_AccessDenied: "EACCES",
    types.ErrorCode_NotSupported: "EOPNOTSUPP",
    types.ErrorCode_InvalidArgument: "EINVAL",
    types.ErrorCode_OutOfMemory: "ENOMEM",
    types.ErrorCode_Timeout: "ETIMEDOUT",
    types.ErrorCode_InvalidState: "EINVAL",
    types.ErrorCode_AddressNotBindable: "EADDRNOTAVAIL",
    types.ErrorCode_AddressInUse: "EADDRINUSE",
    types.ErrorCode_RemoteUnreachable: "EHOSTUNREACH",
    types.ErrorCode_ConnectionRefused: "ECONNREFUSED",
    types.ErrorCode_ConnectionBroken: "EPIPE",
    types.ErrorCode_ConnectionReset: "ECONNRESET",
    types.ErrorCode_ConnectionAborted: "ECONNABORTED",
    types.ErrorCode_DatagramTooLarge: "EMSGSIZE",
}


class Address(NamedTuple):
    """One end of a connection, such as `("127.0.0.1", 1234)`."""

    ip: str
    port: int


class Connection:
    """A connection. A service derives a class from this one.

    An object is made for each connection. Its methods `on_...` are called with what happens, one
    at a time, and its attributes are the state of the connection.
    """

    def __init__(self, socket: int) -> None:
        self._socket = socket
        self._ended = False

    def on_open(self) -> None:
        """The connection begins."""

    def on_data(self, data: bytes) -> None:
        """Data has arrived.

        How it is divided into chunks has no meaning: TCP is a stream of bytes.
        """

    def on_end(self) -> None:
        """The peer has sent FIN.

        What is written now is still sent; then this side ends as well, unless half-open
        connections are allowed.
        """

    def on_drain(self) -> None:
        """Everything written is with the operating system, after more than 64 KiB waited."""

    def on_timeout(self) -> None:
        """The time of `set_timeout` is over."""

    def on_error(self, name: str) -> None:
        """The connection has failed, for example with "ECONNRESET". Only `on_close` follows."""

    def on_close(self, had_error: bool) -> None:
        """The connection is over. Comes last, and once."""

    def write(self, data: bytes) -> bool:
        """Sends data. False if this side has ended, or the connection has gone."""
        ended = sockets.write(self._socket, data) == sockets.Written.ENDED
        self._ended |= ended
        return not ended

    @property
    def writable(self) -> bool:
        """Whether this side has not ended yet, as far as it is known."""
        return not self._ended

    def end(self) -> None:
        """Sends FIN behind what was written. Data from the peer keeps arriving."""
        self._ended = True
        sockets.end(self._socket)

    def destroy(self) -> None:
        """Closes at once; resets if not everything written can be sent immediately."""
        self._ended = True
        sockets.destroy(self._socket)

    def reset(self) -> None:
        """Sends RST: the peer cannot take a part for the whole."""
        self._ended = True
        sockets.reset(self._socket)

    def pause(self) -> None:
        """Holds back `on_data` until `resume`."""
        sockets.pause(self._socket)

    def resume(self) -> None:
        """Undoes `pause`."""
        sockets.resume(self._socket)

    @property
    def unsent(self) -> int:
        """The number of bytes that the operating system has not taken yet."""
        return sockets.unsent(self._socket)

    def allow_half_open(self, allow: bool) -> None:
        """Sets whether this side stays open after the peer's FIN, until `end`."""
        sockets.allow_half_open(self._socket, allow)

    def set_timeout(self, seconds: float) -> None:
        """Calls `on_timeout` after this time without data; 0 never does."""
        sockets.set_timeout(self._socket, round(seconds * 1000))

    @property
    def remote_address(self) -> Address | None:
        """The peer's address; None if it is not known."""
        return _address(sockets.remote_address, self._socket)

    @property
    def local_address(self) -> Address | None:
        """This side's address; None if it is not known."""
        return _address(sockets.local_address, self._socket)


class LineError(Exception):
    """Why there is no line: it is too long, and its rest is left out, or it is not UTF-8."""


class Lines:
    """Makes lines of chunks. A peer that never ends its line fills no memory."""

    def __init__(self, limit: int = 8192) -> None:
        """Of at most so many bytes each, without the end: `\\n` or `\\r\\n`."""
        self._limit = limit
        self._partial = b""
        self._skipping = False

    def push(self, chunk: bytes) -> list[str | LineError]:
        """Returns the lines that this chunk completes."""
        lines: list[str | LineError] = []
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            if not self._skipping:
                self._add(part, lines)
            if not self._skipping:
                lines.append(self._take())
            self._skipping = False
        if not self._skipping:
            self._add(rest, lines)
        return lines

    def finish(self) -> str | LineError | None:
        """Returns what came after the last end of a line, if anything did."""
        return self._take() if self._partial else None

    def _add(self, part: bytes, lines: list[str | LineError]) -> None:
        self._partial += part
        if len(self._partial.removesuffix(b"\r")) > self._limit:
            lines.append(LineError(f"line longer than {self._limit} bytes"))
            self._partial = b""
            self._skipping = True

    def _take(self) -> str | LineError:
        line = self._partial.removesuffix(b"\r")
        self._partial = b""
        try:
            return line.decode()
        except UnicodeDecodeError:
            return LineError("line is not UTF-8")


def args() -> list[str]:
    """Returns the arguments of the service, which follow `--` on the command line."""
    return environment.get_arguments()[1:]


def events(connection_class: type[Connection]) -> type:
    """Makes the class `Events` of a service whose connections are of this class.

    An exception in one of its methods is printed, and resets its own connection: the others go on.
    """
    opened: dict[int, Connection] = {}

    def handle(socket: int, method: str, *values: object) -> None:
        try:
            getattr(opened[socket], method)(*values)
        except Exception:
            traceback.print_exc()
            sockets.reset(socket)

    class Events:
        def connection(self, socket: int) -> None:
            try:
                opened[socket] = connection_class(socket)
            except Exception:
                # Of the connection only the end is left.
                traceback.print_exc()
                opened[socket] = Connection(socket)
                sockets.reset(socket)
                return
            handle(socket, "on_open")

        def data(self, socket: int, data: bytes) -> None:
            handle(socket, "on_data", data)

        def end(self, socket: int) -> None:
            handle(socket, "on_end")

        def drain(self, socket: int) -> None:
            handle(socket, "on_drain")

        def timeout(self, socket: int) -> None:
            handle(socket, "on_timeout")

        def error(self, socket: int, code: types.ErrorCode) -> None:
            handle(socket, "on_error", _NAMES.get(type(code), "EIO"))

        def close(self, socket: int, had_error: bool) -> None:
            handle(socket, "on_close", had_error)
            del opened[socket]

    return Events


def _address(get, socket: int) -> Address | None:
    try:
        value = get(socket).value
    except Err:
        return None
    if isinstance(value, types.Ipv4SocketAddress):
        return Address(str(IPv4Address(bytes(value.address))), value.port)
    groups = b"".join(group.to_bytes(2, "big") for group in value.address)
    return Address(str(IPv6Address(groups)), value.port)
