// Ten thousand connections in one tab: what it keeps is bounded, and it still answers.

import assert from 'node:assert/strict';

import { Peer, choose, counts, eventually, open, reads, rowOf, rungs } from './rig.mjs';

const COUNT = 10_000;
/** How many connect, or talk, at a time. */
const AT_ONCE = 500;
/** A row has ten elements and a link; beside the rows there are the page and one ladder. */
const MOST_ELEMENTS = 500 * 11 + 2_000;
/** What the tab keeps in memory, by the heap of its scripts: some 3 KiB for each connection. */
const MOST_HEAP = 32 << 20;

async function memory(page) {
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable');
  await session.send('HeapProfiler.collectGarbage');
  const { metrics } = await session.send('Performance.getMetrics');
  await session.detach();
  const of = (name) => metrics.find((metric) => metric.name === name).value;
  const elements = await page.evaluate(() => document.querySelectorAll('*').length);
  return { heap: of('JSHeapUsedSize'), elements };
}

async function isBounded(page, what) {
  const { heap, elements } = await memory(page);
  assert.ok(elements <= MOST_ELEMENTS, `${elements} elements ${what}`);
  assert.ok(heap <= MOST_HEAP, `${heap} bytes ${what}`);
}

const peers = [];

/** Lets each peer send a byte, and waits until it is back. */
async function talk() {
  for (let first = 0; first < peers.length; first += AT_ONCE) {
    const some = peers.slice(first, first + AT_ONCE);
    const before = some.map((peer) => peer.count);
    some.forEach((peer) => peer.socket.write('x'));
    await eventually('all are answered', () => some.every((peer, index) => peer.count > before[index]));
  }
}

await open(async (page) => {
  for (let count = 0; count < COUNT; count += 1) {
    const peer = Peer.connect(`127.0.4.${1 + (count % 4)}`);
    peers.push(peer);
    if (count % AT_ONCE === AT_ONCE - 1) {
      await eventually('all are connected', () => peers.every(({ address }) => address));
    }
  }
  await talk();
  await reads(page.locator('#count'), new RegExp(`^${COUNT} connections, of which the newest 500 are shown$`));
  await counts(page.locator('#rows tr'), 500);
  await isBounded(page, 'with all connections open');

  // One of them among all, old or new, while the others talk.
  const [oldest] = peers;
  await page.locator('#search').fill(oldest.address);
  await counts(page.locator('#rows tr'), 1);
  await choose(page, oldest);
  const talking = talk();
  const before = await rungs(page, 'data').count();
  await oldest.echo('hello');
  await eventually('its ladder grows', async () => (await rungs(page, 'data').count()) > before);
  await talking;
  for (let round = 0; round < 4; round += 1) await talk();
  await page.locator('#search').fill('');
  await counts(page.locator('#rows tr'), 500);
  await isBounded(page, 'after more events than are kept');

  // They end all at once.
  for (const peer of peers) peer.socket.destroy();
  const last = await Peer.connect().echo('last');
  await counts(rowOf(page, last), 1);
  // The last thousand of those that have ended are kept.
  await reads(page.locator('#count'), /^1001 connections/);
  await page.locator('#search').fill('state:open');
  await counts(page.locator('#rows tr'), 1);
  await isBounded(page, 'when they have ended');
});
process.exit(0);
