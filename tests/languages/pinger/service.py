from halfopen import Connection, events
from timers import TimerEvents, clear, set_interval

__all__ = ["Events", "TimerEvents"]


class Pinger(Connection):
    def __init__(self, socket: int) -> None:
        super().__init__(socket)
        self.pings = 0
        self.timer = set_interval(self.ping, 0.1)

    def ping(self) -> None:
        self.write(b"ping\n")
        self.pings += 1
        if self.pings == 3:
            clear(self.timer)

    def on_close(self, had_error: bool) -> None:
        clear(self.timer)


Events = events(Pinger)
