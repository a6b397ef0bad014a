// axe-core finds nothing, in light and dark, wide and narrow. Writes the guide's images if
// HALFOPEN_WRITE_SCREENSHOTS is 1.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { Peer, choose, counts, open, reads, rowOf } from './rig.mjs';

const axe = readFileSync(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8');
const images = new URL('../../../host/images/', import.meta.url);
const writes = process.env.HALFOPEN_WRITE_SCREENSHOTS === '1';

async function findsNothing(page, what) {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]);
  assert.deepEqual(found, [], what);
  assert.ok(passes.length > 10, what);
}

async function shoot(page, name) {
  if (!writes) return;
  await page.screenshot({ path: fileURLToPath(new URL(`${name}.png`, images)) });
}

for (const colorScheme of ['light', 'dark']) {
  const context = { colorScheme, reducedMotion: 'reduce', viewport: { width: 1000, height: 640 } };
  await open(
    async (page) => {
      const ended = await Peer.connect().echo('hello\n');
      await counts(rowOf(page, ended), 1);
      ended.socket.end();
      const rude = await Peer.connect().echo('x');
      await counts(rowOf(page, rude), 1);
      rude.socket.resetAndDestroy();
      const peer = await Peer.connect().echo('hello\n');
      await reads(rowOf(page, rude).locator('td').last(), 'reset-by-peer');
      await counts(rowOf(page, peer), 1);
      await findsNothing(page, `${colorScheme}, list`);
      await shoot(page, `watch-list-${colorScheme}`);

      await choose(page, peer);
      await peer.echo('quit\n');
      await counts(page.locator('#ladder g.row.fin'), 1);
      peer.socket.end();
      await counts(page.locator('#ladder g.row.closed'), 1);
      await findsNothing(page, `${colorScheme}, ladder`);
      if (writes) {
        await page.locator('#detail').scrollIntoViewIfNeeded();
        await page.evaluate(() => document.getElementById('detail').scrollIntoView());
        await shoot(page, `watch-ladder-${colorScheme}`);
      }
      await page.locator('summary').click();
      await findsNothing(page, `${colorScheme}, table`);
      const label = await page.locator('#ladder svg').getAttribute('aria-label');
      assert.match(label, /^Ladder of connection \d+, \d+ events, closed: /);

      await page.locator('#help').click();
      await findsNothing(page, `${colorScheme}, help`);
      await page.keyboard.press('Escape');
      await page.setViewportSize({ width: 390, height: 800 });
      await findsNothing(page, `${colorScheme}, narrow`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 390, `the page is ${wide} wide`);
    },
    { context },
  );
}
process.exit(0);
