// On paper there are all of the list and all of the ladder, and nothing to press.

import assert from 'node:assert/strict';

import { Peer, choose, counts, open, rungs } from './rig.mjs';

const ROUNDS = 60;

for (const colorScheme of ['light', 'dark']) {
  await open(
    async (page) => {
      const peer = Peer.connect();
      for (let round = 0; round < ROUNDS; round += 1) await peer.echo('x');
      await choose(page, peer);
      await counts(rungs(page, 'data'), 2 * ROUNDS);
      await page.locator('summary').click();

      await page.emulateMedia({ media: 'print', colorScheme });
      // The width of A4 without margins, in pixels of CSS.
      await page.setViewportSize({ width: 794, height: 1123 });
      const pressed = page.locator('button, input, [role=status], .controls, dialog').filter({ visible: true });
      assert.equal(await pressed.count(), 0);
      const { clipped, wide, high, light } = await page.evaluate(() => {
        const clips = (element) =>
          element.scrollHeight > element.clientHeight + 1 || element.scrollWidth > element.clientWidth + 1;
        return {
          clipped: [...document.querySelectorAll('.scroll')].filter(clips).map((place) => place.getAttribute('aria-label') ?? place.parentElement.id),
          wide: document.documentElement.scrollWidth,
          high: document.querySelector('#ladder svg').getBoundingClientRect().height,
          light: getComputedStyle(document.body).backgroundColor,
        };
      });
      assert.deepEqual(clipped, []);
      assert.ok(wide <= 794, `the page is ${wide} wide`);
      assert.equal(light, 'rgb(255, 255, 255)');
      assert.equal(await page.locator('#ladder svg').isVisible(), true);
      assert.equal(await page.locator('#events tr').filter({ visible: true }).count(), await page.locator('#events tr').count());

      // The browser makes as many sheets as all of that needs.
      const sheets = (await page.pdf({ format: 'A4' })).toString('latin1').match(/\/Type\s*\/Page\b/g).length;
      assert.ok(sheets >= Math.ceil(high / 1123), `${sheets} sheets for ${high} px`);
      assert.ok(sheets >= 3, `${sheets} sheets`);
    },
    { context: { colorScheme, viewport: { width: 1000, height: 640 } } },
  );
}
process.exit(0);
