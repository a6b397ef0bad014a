// With --admin-write, the page resets connections and bans peers.

import assert from 'node:assert/strict';

import { Peer, choose, eventually, open, reads, rowOf } from './rig.mjs';

const OTHER = '127.0.0.2';

await open(async (page, complaints) => {
  const status = page.locator('#status');
  const yes = page.locator('#ask button', { hasText: 'Yes' });
  const no = page.locator('#ask button', { hasText: 'No' });
  const bystander = await Peer.connect().echo('a');

  const victim = await Peer.connect().echo('b');
  const id = await choose(page, victim);
  await page.locator('#reset').click();
  await no.click();
  await victim.echo('still there');
  await page.locator('#reset').click();
  await yes.click();
  await victim.isReset();
  await reads(status, new RegExp(`connection ${id} is `));
  await reads(rowOf(page, victim).locator('td').nth(2), 'CLOSED');
  await eventually('there is nothing left to reset', async () => !(await page.locator('#reset').isVisible()));

  const banned = await Peer.connect(OTHER).echo('c');
  await choose(page, banned);
  await page.locator('#ban').click();
  assert.equal(await page.locator('#ask-peers').inputValue(), `${OTHER}/32`);
  await page.locator('#ask-peers').fill('nobody');
  await yes.click();
  await reads(status, /^not banned: `nobody`: write an address or a network/);
  // The browser reports each answer that is an error.
  assert.match(complaints.splice(0).join(), /400 \(Bad Request\)/);
  await page.locator('#ban').click();
  await page.locator('#ask-seconds').fill('3600');
  await yes.click();
  await banned.isReset();
  const lift = page.locator('#banned button');
  await reads(lift, `Lift the ban of ${OTHER}/32`);
  const refused = Peer.connect(OTHER);
  refused.socket.write('d');
  await refused.isReset();
  await bystander.echo('e');

  await lift.click();
  await reads(status, `${OTHER}/32 is no longer banned`);
  await Peer.connect(OTHER).echo('f');
  assert.equal(await lift.count(), 0);
});
process.exit(0);
