import socket
import unittest

from running import Service


class ChatTest(unittest.TestCase):
    def expect(self, client: socket.socket, text: str) -> None:
        got = client.recv(len(text), socket.MSG_WAITALL)
        self.assertEqual(got.decode(), text)

    def enter(self, service: Service, name: str) -> socket.socket:
        client = service.connect()
        self.expect(client, "What is your name?\n")
        client.sendall(f"{name}\n".encode())
        self.expect(client, "Welcome. There are /who and /quit.\n")
        return client

    def test_everybody_hears_the_others(self) -> None:
        with Service() as service, self.enter(service, "ann") as ann:
            with self.enter(service, "bob") as bob:
                self.expect(ann, "* bob is here\n")
                bob.sendall(b"hello\n")
                self.expect(ann, "bob: hello\n")
            self.expect(ann, "* bob has left\n")


if __name__ == "__main__":
    unittest.main()
