"""Addresses, as text, as sockets have them, and as `halfopen:tcp/types` has them."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from halfopen.errors import ListenError

#: An address of Python's `socket`: host and port, and for IPv6 also flow label and scope.
SocketAddress = tuple[Any, ...]

_EXAMPLE = (
    "write a port, which is on 127.0.0.1, or an IP address and a port, "
    "such as 0.0.0.0:80 or [::1]:80"
)


def parse_listen(text: str) -> tuple[socket.AddressFamily, str, int]:
    """Parses an address to listen on. Raises `ListenError`."""
    host, colon, port = text.rpartition(":")
    if not colon and (text.isdigit() or not text):
        host, port = "", text
    elif not colon or (host.count(":") > 0 and not host.startswith("[")) or text.endswith("]"):
        raise ListenError(
            f"`{text}` is not an address to listen on: the port is missing; {_EXAMPLE}"
        )
    if host in ("", "localhost"):
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ListenError(f"`{host}` is not an IP address; {_EXAMPLE}") from None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return family, str(address), _port(port)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ListenError(f"`{text}` is not a port; ports go from 0 (any free one) to 65535")
    return int(text)


def display(address: SocketAddress) -> str:
    """Writes an address as `127.0.0.1:80` or `[::1]:80`."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def to_guest(address: SocketAddress) -> tuple[str, Any]:
    """Returns the value of the variant `ip-socket-address`."""
    host = address[0].partition("%")[0]
    if ":" not in host:
        return "ipv4", (address[1], tuple(socket.inet_pton(socket.AF_INET, host)))
    packed = socket.inet_pton(socket.AF_INET6, host)
    groups = tuple(int.from_bytes(packed[at : at + 2], "big") for at in range(0, 16, 2))
    return "ipv6", (address[1], address[2], groups, address[3])


def from_guest(value: tuple[str, Any]) -> SocketAddress:
    """Returns the address of a value of `ip-socket-address`."""
    case, fields = value
    if case == "ipv4":
        port, octets = fields
        return socket.inet_ntop(socket.AF_INET, bytes(octets)), port
    port, flow, groups, scope = fields
    packed = b"".join(group.to_bytes(2, "big") for group in groups)
    return socket.inet_ntop(socket.AF_INET6, packed), port, flow, scope
