"""A line protocol: one request per line, one answer per request.

TCP has no messages. A line may arrive in many chunks, and one chunk may hold many lines, so
something has to put them together: here `Lines`, which also limits the length of a line.
"""

from halfopen import Connection, LineError, Lines, events


class Requests(Connection):
    def __init__(self, socket: int) -> None:
        super().__init__(socket)
        self.lines = Lines(1024)

    def on_data(self, data: bytes) -> None:
        for line in self.lines.push(data):
            self.reply(line)

    def on_end(self) -> None:
        last = self.lines.finish()  # the last line needs no end
        if last is not None:
            self.reply(last)

    def reply(self, line: str | LineError) -> None:
        if not self.writable:
            return  # what follows `quit`
        answer, last = respond(line)
        self.write(f"{answer}\n".encode())
        if last:
            self.end()


def respond(line: str | LineError) -> tuple[str, bool]:
    """Returns the answer, and whether it is the last."""
    if isinstance(line, LineError):
        return f"error: {line}", True
    command, _, text = line.partition(" ")
    match command:
        case "upper":
            return text.upper(), False
        case "reverse":
            return text[::-1], False
        case "count":
            return str(len(text)), False
        case "quit":
            return "bye", True
    known = "there are upper, reverse, count and quit"
    return f"error: unknown request `{command}`; {known}", False


Events = events(Requests)
