"""What can go wrong: each error is one line that says what is wrong and what to do."""

from __future__ import annotations


class HalfopenError(Exception):
    """Anything that this package reports to its caller."""

    def __str__(self) -> str:
        # A component's names may contain anything.
        text = super().__str__()
        return "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )


class InvalidComponent(HalfopenError):
    """The bytes are not a component that this host can run."""


class Unsupported(HalfopenError):
    """The component needs something that this host does not have."""


class ListenError(HalfopenError):
    """The server cannot listen on an address."""


class Trapped(HalfopenError):
    """The service has trapped: its instance has ended."""
