"""A chat: each line goes to everybody else.

All connections share one instance, as wit/service.wit declares.
"""

import unicodedata

from halfopen import Connection, LineError, Lines, events

# The most unsent bytes of a client: one that reads too slowly is dropped, and keeps nobody waiting.
BEHIND = 1 << 20

room: "dict[str, Client]" = {}


class Client(Connection):
    def __init__(self, socket: int) -> None:
        super().__init__(socket)
        self.lines = Lines(1000)
        self.name = ""

    def on_open(self) -> None:
        self.tell("What is your name?\n")

    def on_data(self, data: bytes) -> None:
        for line in self.lines.push(data):
            if not self.writable:
                return  # what follows `/quit`
            if isinstance(line, LineError):
                self.tell(f"error: {line}\n")
                self.destroy()
            else:
                self.on_line(line)

    def on_line(self, line: str) -> None:
        if line == "/quit":
            self.leave()
            self.tell("Bye.\n")
            self.end()
        elif not self.name:
            self.enter(line)
        elif line == "/who":
            self.tell(f"* here: {', '.join(room)}\n")
        else:
            # Without control characters, which terminals obey.
            text = "".join(c for c in line if unicodedata.category(c) != "Cc")
            self.tell_others(f"{self.name}: {text}\n")

    def enter(self, name: str) -> None:
        if not name.isalnum() or len(name) > 20:
            self.tell("Use 1 to 20 letters and digits.\n")
        elif name in room:
            self.tell("That name is taken.\n")
        else:
            self.name = name
            room[name] = self
            self.tell("Welcome. There are /who and /quit.\n")
            self.tell_others(f"* {name} is here\n")

    def leave(self) -> None:
        if room.pop(self.name, None):
            self.tell_others(f"* {self.name} has left\n")
        self.name = ""

    def tell(self, text: str) -> None:
        self.write(text.encode())
        if self.unsent > BEHIND:
            self.reset()

    def tell_others(self, text: str) -> None:
        for other in room.values():
            if other is not self:
                other.tell(text)

    def on_close(self, had_error: bool) -> None:
        self.leave()


Events = events(Client)
