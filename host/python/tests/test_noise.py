"""Lines of the log that anyone can cause."""

import unittest
from unittest import mock

from halfopen.noise import MOST, Noise


class Lines(unittest.TestCase):
    def test_only_so_many_come_and_the_rest_is_counted(self):
        with mock.patch("halfopen.noise.time.monotonic", return_value=100.0) as now:
            noise = Noise()
            self.assertEqual([noise.admits() for _ in range(MOST + 3)], [True] * MOST + [False] * 3)
            now.return_value += 7
            self.assertTrue(noise.admits())
            self.assertIn("3 such lines", noise.take_dropped())
            self.assertEqual(noise.take_dropped(), "")
            self.assertFalse(noise.admits())


if __name__ == "__main__":
    unittest.main()
