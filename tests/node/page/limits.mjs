// A limit is a mark in the ladder, between what led to it and the RST. The server has a
// --write-timeout of a second.

import assert from 'node:assert/strict';

import { Peer, choose, counts, open, outcomeOf, reads, rungs, table } from './rig.mjs';

await open(async (page) => {
  await page.evaluate(() => (document.querySelector('#detail details').open = true));
  const bystander = await Peer.connect().echo('a');
  const peer = Peer.unread();
  peer.socket.write(Buffer.alloc(64 << 20, 'x'));
  await choose(page, peer);
  await reads(outcomeOf(page, peer), 'limit-write');
  await reads(page.locator('#cause'), /^Closed \(limit-write\): the peer took no data for 1 s: --write-timeout\. /);
  for (const kind of ['limit', 'rst', 'closed']) await counts(rungs(page, kind), 1);
  await reads(rungs(page, 'limit').locator('.note'), 'limit: write');
  const end = (await table(page)).slice(-3);
  assert.deepEqual(end, [
    ['', 'limit: write', ''],
    ['service', 'RST', 'CLOSED'],
    ['', 'closed: limit-write', ''],
  ]);
  const waited = (await table(page)).map(([, what]) => what);
  assert.ok(waited.includes('blocked to the peer: the window of the peer is full'), waited.join('\n'));
  await bystander.echo('b');
});
process.exit(0);
