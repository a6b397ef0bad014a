"""Starts the service for a test. HALFOPEN names the command, if it is not on the path."""

import os
import socket
import subprocess


class Service:
    def __enter__(self) -> "Service":
        command = os.environ.get("HALFOPEN", "halfopen")
        flags = ["serve", "build/service.wasm", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen([command, *flags], stdout=subprocess.PIPE, text=True)
        host, port = self.line().split(":")  # the first line is the address
        self.address = (host, int(port))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def line(self) -> str:
        """The next line that is printed."""
        return self.process.stdout.readline().rstrip("\n")

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)


def rest(client: socket.socket) -> bytes:
    """Everything that the peer sends until its FIN."""
    return b"".join(iter(lambda: client.recv(65536), b""))
