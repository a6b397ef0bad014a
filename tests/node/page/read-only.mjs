// Without --admin-write, the page only shows.

import assert from 'node:assert/strict';

import { Peer, choose, open } from './rig.mjs';

await open(async (page, complaints) => {
  const peer = await Peer.connect().echo('a');
  const id = await choose(page, peer);
  assert.equal(await page.locator('#actions').isVisible(), false);
  const orders = [
    ['POST', `/connections/${id}/reset`],
    ['POST', '/peers/127.0.0.1/ban?seconds=60'],
    ['DELETE', '/peers/127.0.0.1/ban'],
  ];
  for (const [method, path] of orders) {
    const answer = await page.evaluate(async ([method, path]) => {
      const answer = await fetch(path, { method, headers: { 'X-Halfopen': '1' } });
      return [answer.status, await answer.text()];
    }, [method, path]);
    assert.equal(answer[0], 403, path);
    assert.match(answer[1], /--admin-write/);
  }
  await peer.echo('b');
  await Peer.connect().echo('c');
  // The browser reports each answer that is an error.
  const expected = complaints.filter((text) => text.includes('403 (Forbidden)'));
  assert.equal(expected.length, orders.length);
  complaints.splice(0, complaints.length, ...complaints.filter((text) => !expected.includes(text)));
});
process.exit(0);
