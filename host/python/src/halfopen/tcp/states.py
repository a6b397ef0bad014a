"""The states of a connection."""

from __future__ import annotations

import enum


class Written(enum.IntEnum):
    """What became of a write: the cases of `sockets.written`, in their order."""

    MORE = 0
    WAIT = 1
    ENDED = 2


class Sending(enum.Enum):
    """The progress of the sending direction."""

    OPEN = 0
    #: The service has ended it; data written before is still being sent.
    ENDING = 1
    #: FIN is with the kernel.
    FINISHED = 2


class Receiving(enum.Enum):
    """The progress of the receiving direction, as the service sees it."""

    OPEN = 0
    #: The peer's FIN is received and not delivered.
    ENDED = 1
    #: The event `end` is delivered, and its handler may still run.
    ENDING = 2
    #: The handler of `end` has returned.
    OVER = 3


class Reported(enum.Enum):
    """The last of the final events that was delivered."""

    NOTHING = 0
    ERROR = 1
    CLOSE = 2
