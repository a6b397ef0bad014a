"""Timers, idle times and the alarms behind them."""

import asyncio
import time
import unittest

from halfopen.tcp import reactor, timers
from halfopen.tcp.idle import Idle
from halfopen.tcp.reactor import Reactor
from halfopen.tcp.timers import Timers

#: How long something may take: longer than it does on a busy machine.
PATIENCE = 60


class Clocks(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.reactor = Reactor(asyncio.get_running_loop())
        self.addCleanup(self.reactor.close)
        self.rung = asyncio.Queue()

    async def next(self):
        return await asyncio.wait_for(self.rung.get(), PATIENCE)

    async def test_alarms_ring_late_and_in_order(self):
        now = time.monotonic()
        for delay in (0.03, 0.01, 0.02):
            self.reactor.alarm(
                now + delay, lambda delay=delay: self.rung.put_nowait((delay, time.monotonic()))
            )
        for delay in (0.01, 0.02, 0.03):
            rung, at = await self.next()
            self.assertEqual(rung, delay)
            self.assertGreaterEqual(at, now + delay)

    async def test_cancelled_alarms_take_no_room(self):
        later = time.monotonic() + PATIENCE
        kept = self.reactor.alarm(later, lambda: None)
        for _ in range(10 * reactor.PURGE):
            self.reactor.alarm(later, lambda: None).cancel()
        self.assertLessEqual(len(self.reactor._alarms), reactor.PURGE)
        self.assertIn(kept, self.reactor._alarms)

    async def test_a_timer_fires_once_and_an_interval_again(self):
        some = Timers(self.reactor, self.rung.put_nowait)
        self.assertEqual([some.set(20, False), some.set(5, True)], [1, 2])
        fired = [await self.next() for _ in range(8)]
        self.assertEqual(fired.count(1), 1)
        some.clear(2)
        self.assertEqual(len(some), 0)

    async def test_calls_that_are_missed_are_left_out(self):
        some = Timers(self.reactor, self.rung.put_nowait)
        some.set(10, True)
        # The loop is busy meanwhile.
        time.sleep(0.2)
        await self.next()
        self.assertTrue(self.rung.empty())

    async def test_there_are_so_many_timers_and_no_more(self):
        some = Timers(self.reactor, self.rung.put_nowait)
        for _ in range(timers.MOST):
            self.assertNotEqual(some.set(60_000, False), 0)
        self.assertEqual(some.set(60_000, False), 0)
        some.clear(1)
        self.assertEqual(some.set(60_000, False), timers.MOST + 1)

    async def test_timers_that_are_cleared_take_no_room(self):
        some = Timers(self.reactor, self.rung.put_nowait)
        kept = some.set(60_000, False)
        for _ in range(5 * timers.MOST):
            some.clear(some.set(60_000, False))
        self.assertLessEqual(len(some._heap), 2 * timers.MOST + 1)
        self.assertIn(kept, [number for _, number in some._heap])

    async def test_an_idle_time_passes_once_until_data_moves(self):
        idle = Idle(self.reactor, lambda: self.rung.put_nowait(idle.take()))
        begin = time.monotonic()
        idle.set(20)
        while not await self.next():
            pass
        self.assertGreaterEqual(time.monotonic(), begin + 0.02)
        self.assertFalse(idle.take())
        idle.moved()
        while not await self.next():
            pass
        idle.set(0)
        self.assertFalse(idle.take())


if __name__ == "__main__":
    unittest.main()
