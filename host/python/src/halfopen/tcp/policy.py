"""Where a service may connect to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from halfopen.errors import HalfopenError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Networks that only a rule within them opens: loopback, private, link-local, shared, reserved,
#: and IPv6 addresses that stand for IPv4 ones.
_PRIVATE: list[_Network] = [
    ipaddress.ip_network(one)
    for one in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "240.0.0.0/4",
        "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48",
        "2001::/32", "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10",
    )
]  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """Allows the addresses of a network, with ports from the first to the last."""

    network: _Network
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parses `ADDRESS:PORT`, with a range or `*` as the port, or a CIDR for every port."""
        host, colon, ports = text.rpartition(":")
        if "/" in ports or not colon or text.endswith("]"):
            host, ports = text, "*"
        first, dash, last = ("0", "-", "65535") if ports == "*" else ports.partition("-")
        try:
            network = ipaddress.ip_network(host.replace("[", "").replace("]", ""))
            rule = cls(network, int(first), int(last if dash else first))
        except ValueError:
            rule = None
        if rule is None or not 0 <= rule.first <= rule.last <= 65535:
            raise HalfopenError(
                f"`{text}` is no rule for addresses; "
                "write an IP address and a port, such as 10.0.0.7:5432 or [::1]:*, or a CIDR"
            )
        return rule

    def allows(self, address: _Address, port: int) -> bool:
        """Whether this rule allows an address. A private one takes a rule that is private."""
        if address not in self.network or not self.first <= port <= self.last:
            return False
        return all(
            self.network.subnet_of(private)  # type: ignore[arg-type]
            for private in _PRIVATE
            if address in private and private.version == self.network.version
        )


def check(host: str, port: int, rules: Sequence[Rule]) -> str | None:
    """Returns the case of `error-code` that an address has, or `None` if it is allowed."""
    address = ipaddress.ip_address(host)
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
    if port == 0 or address.is_unspecified or address.is_multicast or mapped:
        return "invalid-argument"
    if not any(rule.allows(address, port) for rule in rules):
        return "access-denied"
    return None
