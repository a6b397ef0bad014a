import socket
import unittest

from running import Service, rest


class LinesTest(unittest.TestCase):
    def test_each_line_has_an_answer(self) -> None:
        with Service() as service, service.connect() as client:
            client.sendall(b"upper hello\nreverse abc\ncount four")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(rest(client), b"HELLO\ncba\n4\n")


if __name__ == "__main__":
    unittest.main()
