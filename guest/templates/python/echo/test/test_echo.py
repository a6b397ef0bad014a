import socket
import unittest

from running import Service, rest


class EchoTest(unittest.TestCase):
    def test_it_sends_back_what_it_gets_and_ends_after_the_peer(self) -> None:
        with Service() as service, service.connect() as client:
            client.sendall(b"hi")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(rest(client), b"hi")
            self.assertRegex(service.line(), r"^new connection 127\.0\.0\.1 \d+$")
            self.assertEqual(service.line(), "data: <Buffer 68 69>")
            self.assertEqual(service.line(), "EOF.")


if __name__ == "__main__":
    unittest.main()
