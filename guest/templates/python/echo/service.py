"""An echo server: it sends back all data, and ends its side after a chunk that contains a `q`."""

from halfopen import Connection, args, events


class Echo(Connection):
    def __init__(self, socket: int) -> None:
        super().__init__(socket)
        self.quiet = "--quiet" in args()
        self.half_open = "--allow-half-open" in args()

    def on_open(self) -> None:
        self.allow_half_open(self.half_open)
        ip, port = self.remote_address or ("undefined", "undefined")
        self.log(f"new connection {ip} {port}")

    def on_data(self, data: bytes) -> None:
        if not self.quiet:
            self.log(f"data: {buffer(data)}")
        # After our own end nothing is sent any more.
        if self.write(data) and b"q" in data:
            self.log("closing.")
            self.end()

    def on_end(self) -> None:
        self.log("EOF.")
        # With half-open connections allowed, this side does not end by itself.
        if self.half_open:
            self.end()

    def on_error(self, name: str) -> None:
        self.log(f"error: {name}")

    def log(self, line: str) -> None:
        if not self.quiet:
            print(line)


def buffer(data: bytes) -> str:
    """Shows bytes as Node shows a Buffer: the first 50, and how many more there are."""
    shown = data[:50].hex(" ")
    more = len(data) - 50
    if more > 0:
        shown += f" ... {more} more byte{'s' if more > 1 else ''}"
    return f"<Buffer {shown}>"


Events = events(Echo)
