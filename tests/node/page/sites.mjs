// Pages of other sites can neither read this one nor drive it. The server has --admin-write.

import assert from 'node:assert/strict';
import http from 'node:http';

import { Peer, admin, choose, open, reads } from './rig.mjs';

const port = admin.split(':').at(-1);
const other = http.createServer((_, answer) => {
  answer.setHeader('Content-Type', 'text/html');
  answer.end('<!doctype html><title>another site</title>');
});
await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
const site = other.address().port;

/** What a page tries, in the browser. */
async function attack([admin, id]) {
  const events = new Promise((resolve) => {
    const stream = new EventSource(`http://${admin}/events`);
    stream.onmessage = () => resolve('read');
    stream.onerror = () => resolve('denied');
  });
  const list = fetch(`http://${admin}/connections`).then(() => 'read', () => 'denied');
  const order = `http://${admin}/connections/${id}/reset`;
  const headers = { 'X-Halfopen': '1' };
  const asked = fetch(order, { method: 'POST', headers }).then(() => 'done', () => 'denied');
  // The answer cannot be read, but the request arrives.
  await fetch(order, { method: 'POST', mode: 'no-cors', body: 'x' }).catch(() => {});
  const script = new Promise((resolve) => {
    const element = document.createElement('script');
    element.type = 'module';
    element.onload = () => resolve('read');
    element.onerror = () => resolve('denied');
    element.src = `http://${admin}/watch/main.js`;
    document.body.append(element);
  });
  const frame = new Promise((resolve) => {
    const element = document.createElement('iframe');
    element.onload = () => resolve('loaded');
    element.src = `http://${admin}/watch`;
    document.body.append(element);
  });
  const form = document.createElement('form');
  Object.assign(form, { method: 'post', action: order, target: 'nowhere' });
  const sink = document.createElement('iframe');
  sink.name = 'nowhere';
  const sent = new Promise((resolve) => sink.addEventListener('load', () => resolve(), { once: true }));
  document.body.append(sink, form);
  form.submit();
  await sent;
  return Promise.all([events, list, asked, script, frame]);
}

const rules = '--host-resolver-rules=MAP attacker.example 127.0.0.1';
await open(
  async (page, complaints) => {
    const peer = await Peer.connect().echo('a');
    const id = await choose(page, peer);
    // The same site on another port, and another site.
    for (const name of ['127.0.0.1', 'localhost', 'attacker.example']) {
      const attacker = await page.context().newPage();
      await attacker.goto(`http://${name}:${site}/`);
      const outcome = await attacker.evaluate(attack, [admin, id]);
      assert.deepEqual(outcome.slice(0, 4), ['denied', 'denied', 'denied', 'denied'], name);
      // The frame has the browser's error, or our answer, and never the page.
      for (const frame of attacker.frames().slice(1)) {
        assert.equal(await frame.locator('#rows').count(), 0, name);
      }
      await attacker.close();
      await peer.echo(name);
    }
    // A name of the attacker's that leads here is not this page's name.
    const rebound = await page.context().newPage();
    const answer = await rebound.goto(`http://attacker.example:${port}/watch`);
    assert.equal(answer.status(), 403);
    assert.match(await answer.text(), /--admin-host attacker\.example/);
    const metrics = await rebound.goto(`http://attacker.example:${port}/healthz`);
    assert.equal(metrics.status(), 200);
    await rebound.close();
    // A link to the page opens it.
    const visitor = await page.context().newPage();
    await visitor.goto(`http://localhost:${site}/`);
    await visitor.evaluate((target) => {
      const link = document.createElement('a');
      link.href = target;
      document.body.append(link);
      link.click();
    }, `http://${admin}/watch#connection/${id}`);
    await reads(visitor.locator('#detail-heading'), `Connection ${id}`);
    // The browser says what it has denied.
    complaints.length = 0;
  },
  { args: [rules] },
);
process.exit(0);
