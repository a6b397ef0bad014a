// The page shows connections as they begin, move and end.

import assert from 'node:assert/strict';

import { Peer, admin, choose, counts, eventually, open, outcomeOf, reads, rowOf, rungs, stateOf } from './rig.mjs';

await open(async (page) => {
  // A ladder grows as bytes flow.
  const peer = await Peer.connect().echo('hello');
  const id = await choose(page, peer);
  await reads(stateOf(page, peer), 'ESTABLISHED');
  await counts(rungs(page, 'data'), 2);
  assert.deepEqual(await rungs(page, 'data').locator('.label').allTextContents(), ['5 B', '5 B']);
  await peer.echo('you');
  await counts(rungs(page, 'data'), 4);
  await reads(page.locator('#summary'), /8 bytes received, 8 sent/);
  await counts(rungs(page, 'fin'), 0);

  // The echo ends its side after a `q`, and goes on reading.
  await peer.echo('q');
  await reads(stateOf(page, peer), 'FIN-WAIT-2');
  await counts(rungs(page, 'fin'), 1);
  peer.socket.end();
  await reads(stateOf(page, peer), 'CLOSED');
  await reads(outcomeOf(page, peer), 'fin');
  await counts(rungs(page, 'fin'), 2);
  await reads(page.locator('#cause'), /^Closed \(fin\): .+ The service ended first\.$/);
  await reads(page.locator('#status'), new RegExp(`connection ${id} is closed: .+`));

  // A reset is one.
  const rude = await Peer.connect().echo('x');
  await choose(page, rude);
  rude.socket.resetAndDestroy();
  await reads(outcomeOf(page, rude), 'reset-by-peer');
  await counts(rungs(page, 'rst'), 1);
  await counts(rungs(page, 'fin'), 0);

  // What peers send is text.
  const hostile = '<img src=x onerror=alert(1)>\u202e';
  const attacker = await Peer.connect().echo(hostile);
  await choose(page, attacker);
  const shown = hostile.replace('\u202e', '\\u{202e}');
  await eventually('the payload is shown', async () => {
    const texts = await page.locator('#ladder .content').allTextContents();
    return texts.length === 2 && texts.every((text) => text === shown);
  });
  assert.equal(await page.locator('img, script:not([src])').count(), 0);
  // The table has the same rows as the ladder.
  await page.locator('summary').click();
  const ladder = await page.locator('#ladder g.row').count();
  await counts(page.locator('#events tr'), ladder);

  // A search leaves what fits.
  const search = page.locator('#search');
  const listed = page.locator('#rows tr');
  for (const [text, fitting] of [
    ['outcome:fin', [peer]],
    ['state:closed -outcome:fin', [rude]],
    [`peer:127.0.0.0/8 ${attacker.address}`, [attacker]],
    ['peer:10.0.0.0/8', []],
    ['service:echo', [peer, rude, attacker]],
  ]) {
    await search.fill(text);
    await counts(listed, fitting.length);
    for (const one of fitting) await counts(rowOf(page, one), 1);
  }
  await search.fill('');

  // Pause holds.
  await page.locator('h1').click();
  await page.keyboard.press('Space');
  await reads(page.locator('#status'), 'paused');
  const before = await page.locator('body').innerText();
  const late = await Peer.connect().echo('late');
  const other = await page.context().newPage();
  await other.goto(`http://${admin}/watch`);
  // Once another page shows it, it has had time to come.
  await counts(rowOf(other, late), 1);
  assert.equal(await page.locator('body').innerText(), before);
  await page.keyboard.press('Space');
  await counts(rowOf(page, late), 1);

  // A link shows one connection, also one that has ended.
  await other.goto(`http://${admin}/watch#connection/${id}`);
  await other.reload();
  await reads(other.locator('#detail-heading'), `Connection ${id}`);
  await reads(other.locator('#cause'), /The service ended first/);
  await other.close();

  // The keyboard.
  const hash = () => page.evaluate(() => location.hash);
  await page.keyboard.press('Escape');
  assert.equal(await hash(), '');
  await page.keyboard.press('j');
  const first = await hash();
  assert.match(first, /^#connection\/\d+$/);
  await page.keyboard.press('ArrowDown');
  assert.notEqual(await hash(), first);
  assert.equal(await page.locator('#rows tr[aria-current]').count(), 1);
  await page.keyboard.press('k');
  assert.equal(await hash(), first);
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'search');
  await page.keyboard.type('jk ?');
  assert.equal(await search.inputValue(), 'jk ?');
  assert.equal(await hash(), first);
  await search.fill('');
  await page.keyboard.press('Escape');
  await page.keyboard.press('?');
  assert.equal(await page.locator('#keys').isVisible(), true);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('#keys').isVisible(), false);
});
process.exit(0);
