import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Clock } from '../src/clock.js';

test('timers fire in the order of their times, late and never early, and not after they are cleared', async () => {
  /** @type {[number, number][]} */
  const fired = [];
  const begin = performance.now();
  await new Promise((/** @type {(value?: any) => void} */ done) => {
    const clock = new Clock((timer) => {
      fired.push([timer, performance.now() - begin]);
      if (timer === 1) clock.clear(4);
      if (fired.length === 3) done();
    });
    assert.deepEqual([clock.set(30, 0), clock.set(5, 0), clock.set(60, 0), clock.set(31, 0)], [1, 2, 3, 4]);
    // The process would end: the clock keeps none running.
    setTimeout(() => {}, 10_000).unref();
    const running = setInterval(() => fired.length === 3 && clearInterval(running), 5);
  });
  assert.deepEqual(
    fired.map(([timer]) => timer),
    [2, 1, 3],
  );
  const least = [5, 30, 60];
  fired.forEach(([, time], index) => assert.ok(time >= least[index], `${time}`));
});

test('an interval leaves out what it has missed', async () => {
  /** @type {number[]} */
  const times = [];
  const begin = performance.now();
  await new Promise((/** @type {(value?: any) => void} */ done) => {
    const clock = new Clock(() => {
      times.push(performance.now() - begin);
      // Busy for two and a half intervals.
      while (times.length === 1 && performance.now() - begin < 70);
      if (times.length === 3) done(clock.clearAll());
    });
    clock.set(20, 20);
    const running = setInterval(() => times.length === 3 && clearInterval(running), 5);
  });
  // The call that was due comes late; those behind it do not, so that each has a time of its own.
  const [, second, third] = times.map((time) => Math.floor(time / 20));
  assert.ok(times[1] >= 70 && third > second, `${times}`);
});

test('there are only so many timers', () => {
  const clock = new Clock(() => {});
  for (let count = 1; count <= 10_000; count += 1) assert.equal(clock.set(60_000, 0), count);
  assert.equal(clock.set(60_000, 0), 0);
  clock.clear(7);
  assert.equal(clock.set(60_000, 0), 10_001);
  clock.clearAll();
});
