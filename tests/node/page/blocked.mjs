// Directions that wait are stretches of the ladder, and rows of its table, until they go on.

import assert from 'node:assert/strict';

import { Peer, choose, counts, eventually, open, outcomeOf, reads, stateOf, table } from './rig.mjs';

/** More than the buffers of two kernels take, in both directions. */
const MUCH = 64 << 20;
/** How much the peer reads at a time. */
const SOME = 256 << 10;

/** The stretches at the lane of a side: whether each goes on to the last row. */
async function stretches(page, lane) {
  return page.locator('#ladder').evaluate((place, lane) => {
    const name = [...place.querySelectorAll('.lane-name')].find((text) => text.textContent === lane);
    const middle = Number(name.getAttribute('x'));
    const rows = [...place.querySelectorAll('g.row .time')].map((time) => Number(time.getAttribute('y')));
    const of = (rect, what) => Number(rect.getAttribute(what));
    return [...place.querySelectorAll('rect.blocked')]
      .filter((rect) => of(rect, 'x') + of(rect, 'width') / 2 === middle)
      .map((rect) => of(rect, 'y') + of(rect, 'height') >= Math.max(...rows) - 13);
  }, lane);
}

const has = async (page, what) => (await table(page)).some(([, told]) => what.test(told));

await open(async (page) => {
  await page.evaluate(() => (document.querySelector('#detail details').open = true));
  const bystander = await Peer.connect().echo('a');

  // An echo to a peer that does not read waits, and so reads no more itself.
  const peer = Peer.unread();
  peer.socket.write(Buffer.alloc(MUCH, 'x'));
  await choose(page, peer);
  await eventually('both directions wait', async () =>
    (await stretches(page, 'peer')).length === 1 && (await stretches(page, 'service')).length === 1,
  );
  await reads(stateOf(page, peer), 'ESTABLISHED (blocked)');
  assert.ok(await has(page, /^blocked to the peer: the window of the peer is full$/));
  assert.ok(await has(page, /^blocked from the peer: the service does not read$/));
  assert.deepEqual(await stretches(page, 'peer'), [true]);
  assert.deepEqual(await stretches(page, 'service'), [true]);
  await bystander.echo('b');

  // As soon as it has read enough, both go on.
  let wanted = 0;
  peer.socket.on('data', () => peer.count >= wanted && peer.socket.pause());
  await eventually('both go on', async () => {
    wanted = peer.count + SOME;
    peer.socket.resume();
    const [out, back] = [/^moves again to the peer, after \d+\.\d{3} s$/, /^moves again from the peer, after \d+\.\d{3} s$/];
    return (await has(page, out)) && (await has(page, back));
  });
  assert.equal((await stretches(page, 'peer'))[0], false);
  assert.equal((await stretches(page, 'service'))[0], false);

  // The end ends them.
  peer.socket.resetAndDestroy();
  await reads(outcomeOf(page, peer), 'reset-by-peer');
  await counts(page.locator('#ladder g.row.closed'), 1);
  await reads(stateOf(page, peer), 'CLOSED');
  await bystander.echo('c');
});
process.exit(0);
