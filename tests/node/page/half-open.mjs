// Connections of which one side has finished sending, by the names of RFC 9293: in the list, in the
// ladder and in its table. The service is `strain`: it sends as many bytes as the first line of the
// peer says, then FIN, and receives until the peer's.

import assert from 'node:assert/strict';

import { Peer, admin, choose, counts, eventually, open, outcomeOf, reads, rungs, stateOf, table } from './rig.mjs';

/** More than the buffers of two kernels take. */
const MUCH = 64 << 20;

/** The states that the ladder names beside its arrows and marks. */
const named = async (page) => {
  const notes = await page.locator('#ladder g.row .note').allTextContents();
  return notes.map((note) => /[A-Z]+-[A-Z0-9-]+$/.exec(note)?.[0]).filter(Boolean);
};

await open(async (page) => {
  await page.evaluate(() => (document.querySelector('#detail details').open = true));

  // The peer has finished, and still gets its answer, as fast as it reads.
  const asker = Peer.unread();
  asker.socket.end(`1 ${MUCH} 0\n`);
  await choose(page, asker);
  await reads(stateOf(page, asker), 'CLOSE-WAIT (blocked)');
  await reads(page.locator('#summary'), / to strain, CLOSE-WAIT, /);
  await counts(rungs(page, 'fin'), 1);
  assert.deepEqual(await named(page), ['CLOSE-WAIT']);
  await counts(rungs(page, 'closed'), 0);
  // The lane of the side that sends no more is dotted.
  const dotted = page.locator('#ladder .lane.finished');
  const lane = (name) => page.locator('#ladder .lane-name').filter({ hasText: name }).getAttribute('x');
  await counts(dotted, 1);
  assert.equal(await dotted.getAttribute('x1'), await lane('peer'));

  // The service has finished, and still receives.
  const teller = await Peer.connect();
  teller.socket.write('1 0 0\n');
  await eventually('the service has finished', () => teller.ended);
  await choose(page, teller);
  // The kernel is asked when the peer has acknowledged it.
  await reads(stateOf(page, teller), 'FIN-WAIT-2');
  await reads(page.locator('#summary'), / to strain, FIN-WAIT-2, 6 bytes received, 0 sent$/);
  teller.socket.write('more');
  await reads(page.locator('#summary'), / to strain, FIN-WAIT-2, 10 bytes received, 0 sent$/);

  // Whoever comes later sees the same.
  const other = await page.context().newPage();
  await other.goto(`http://${admin}/watch`);
  await reads(stateOf(other, teller), 'FIN-WAIT-2');
  await reads(stateOf(other, asker), 'CLOSE-WAIT (blocked)');
  for (const [text, fitting] of [
    ['state:half-open', 2],
    ['state:close-wait', 1],
    ['state:fin-wait', 1],
    ['state:fin-wait-1', 0],
    ['state:blocked', 1],
    ['state:open', 2],
    ['state:established', 0],
  ]) {
    await other.locator('#search').fill(text);
    await counts(other.locator('#rows tr'), fitting);
  }
  await other.close();

  await counts(dotted, 1);
  assert.equal(await dotted.getAttribute('x1'), await lane('service'));
  teller.socket.end();
  await reads(outcomeOf(page, teller), 'fin');
  await counts(dotted, 2);
  assert.deepEqual(await named(page), ['FIN-WAIT-1', 'FIN-WAIT-2', 'TIME-WAIT']);
  const told = (await table(page)).filter(([, , state]) => state);
  assert.deepEqual(told, [
    ['service', 'FIN', 'FIN-WAIT-1'],
    ['', 'the peer has acknowledged the FIN', 'FIN-WAIT-2'],
    ['peer', 'FIN', 'TIME-WAIT'],
  ]);
  await reads(page.locator('#cause'), /The service ended first\.$/);

  asker.socket.resume();
  await eventually('the answer is whole', () => asker.count === MUCH && asker.ended);
  await choose(page, asker);
  await reads(outcomeOf(page, asker), 'fin');
  await reads(page.locator('#cause'), /The peer ended first\.$/);
  // The begin of so many events is not kept.
  await eventually('its last state is named', async () => (await named(page)).at(-1) === 'LAST-ACK');
});
process.exit(0);
