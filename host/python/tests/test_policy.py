"""Addresses to listen on, and where a service may connect to."""

import unittest

from halfopen.errors import HalfopenError, ListenError
from halfopen.tcp import address
from halfopen.tcp.policy import Rule, check


class Listening(unittest.TestCase):
    def test_addresses(self):
        for text, host, port in (
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]:80", "::1", 80),
            ("1234", "127.0.0.1", 1234),
            (":1234", "127.0.0.1", 1234),
            ("localhost:0", "127.0.0.1", 0),
        ):
            self.assertEqual(address.parse_listen(text)[1:], (host, port))

    def test_mistakes_say_what_to_write(self):
        for text, why in (
            ("127.0.0.1", "port is missing"),
            ("[::1]", "port is missing"),
            ("::1", "port is missing"),
            ("127.0.0.1:65536", "`65536` is not a port"),
            ("127.0.0.1:-1", "`-1` is not a port"),
            ("nowhere.example:1", "an IP address and a port"),
        ):
            with self.assertRaisesRegex(ListenError, why):
                address.parse_listen(text)

    def test_addresses_go_to_a_guest_and_back(self):
        for one in (("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0), ("fe80::1", 1, 2, 3)):
            self.assertEqual(address.from_guest(address.to_guest(one)), one)


class Connecting(unittest.TestCase):
    def check(self, host, port, *rules):
        return check(host, port, [Rule.parse(rule) for rule in rules])

    def test_nothing_is_allowed_without_a_rule(self):
        self.assertEqual(self.check("192.0.2.1", 80), "access-denied")

    def test_rules(self):
        self.assertIsNone(self.check("127.0.0.1", 80, "127.0.0.1:80"))
        self.assertIsNone(self.check("127.0.0.1", 80, "127.0.0.1:*"))
        self.assertIsNone(self.check("8.8.8.8", 80, "0.0.0.0/0"))
        self.assertIsNone(self.check("10.1.2.3", 5432, "10.0.0.0/8:5000-6000"))
        self.assertIsNone(self.check("::1", 80, "[::1]:80"))
        self.assertEqual(self.check("127.0.0.1", 81, "127.0.0.1:80"), "access-denied")
        self.assertEqual(self.check("127.0.0.2", 80, "127.0.0.1:*"), "access-denied")

    def test_a_rule_for_the_internet_does_not_open_the_internal_network(self):
        for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1"):
            self.assertEqual(self.check(host, 80, "0.0.0.0/0"), "access-denied", host)
        for host in ("::1", "fd00::1", "fe80::1", "64:ff9b::a00:1", "2002:a00:1::"):
            self.assertEqual(self.check(host, 80, "::/0"), "access-denied", host)

    def test_addresses_that_are_no_peers(self):
        for host, port in (
            ("127.0.0.1", 0),
            ("0.0.0.0", 80),
            ("224.0.0.1", 80),
            ("::ffff:10.0.0.1", 80),
        ):
            self.assertEqual(self.check(host, port, "0.0.0.0/0", "::/0"), "invalid-argument")

    def test_mistakes(self):
        for text in ("example.org:80", "10.0.0.1:80-70", "10.0.0.1:65536", "10.0.0.1:x", ""):
            with self.assertRaisesRegex(HalfopenError, "is no rule"):
                Rule.parse(text)


if __name__ == "__main__":
    unittest.main()
