// A browser that stands still: the server goes on as if it were not there, and once it goes on it
// is told what it has missed. The server shows bytes, so that its events soon fill what waits for
// the browser, and has one worker.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';

import { Peer, admin, counts, eventually, open, outcomeOf, reads, rowOf, stateOf } from './rig.mjs';

/** The processes of the browser, which are this one's descendants. */
function browser() {
  const parents = new Map();
  for (const id of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${id}/stat`, 'utf8');
      parents.set(Number(id), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // It has ended.
    }
  }
  const is = (id) => id === process.pid || (parents.has(id) && is(parents.get(id)));
  return [...parents.keys()].filter((id) => id !== process.pid && is(id));
}

const signal = (name) => browser().forEach((id) => process.kill(id, name));

async function resident() {
  const metrics = await (await fetch(`http://${admin}/metrics`)).text();
  return Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)[1]);
}

const chunk = 'x'.repeat(1000);

/** Lets the peers talk for some seconds. */
async function talk(peers, seconds) {
  const until = Date.now() + seconds * 1000;
  await Promise.all(peers.map(async (peer) => {
    while (Date.now() < until) {
      const wanted = peer.count + chunk.length;
      peer.socket.write(chunk);
      while (peer.count < wanted) await new Promise((resolve) => peer.socket.once('data', resolve));
    }
  }));
}

await open(async (page) => {
  const peers = Array.from({ length: 8 }, () => Peer.connect());
  for (const peer of peers) peer.keeps = false;
  const leaving = await Peer.connect().echo('a');
  await counts(rowOf(page, leaving), 1);
  await talk(peers, 1);
  const before = await resident();
  let lost = null;
  // How much is lost depends on the buffers of the kernel.
  for (let seconds = 3; !lost && seconds < 50; seconds *= 2) {
    signal('SIGSTOP');
    try {
      await talk(peers, seconds);
      // This ends unseen.
      leaving.socket.destroy();
      await talk(peers, seconds);
      assert.equal((await fetch(`http://${admin}/healthz`)).status, 200);
    } finally {
      signal('SIGCONT');
    }
    // Then it shows what there is.
    const late = await Peer.connect().echo('late');
    await counts(rowOf(page, late), 1);
    await reads(stateOf(page, late), 'ESTABLISHED');
    lost = /, (\d+) events lost$/.exec(await page.locator('#server').textContent());
  }
  assert.ok(Number(lost?.[1]) > 0, 'nothing was lost');
  await eventually('the end is known, or concluded', async () =>
    ['fin', 'reset-by-peer', 'unknown'].includes(await outcomeOf(page, leaving).textContent()),
  );
  for (const peer of peers) await reads(stateOf(page, peer), 'ESTABLISHED');
  const grown = (await resident()) - before;
  assert.ok(grown < 64 << 20, `the server has grown by ${grown} bytes`);
});
process.exit(0);
