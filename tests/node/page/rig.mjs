// What the checks of the page share: a browser, peers of the server, and waiting.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { chromium } from 'playwright-core';

/** The longest wait for anything, in milliseconds. Only a failing check waits so long. */
export const PATIENCE = 120_000;

/** The admin address and the service's, as the test gives them. */
export const [admin, service] = process.argv.slice(2);

const browserPath = process.env.PATH.split(':')
  .map((folder) => join(folder, 'chromium'))
  .find(existsSync);

/** Opens the page in a browser; fails if the browser complains of anything. */
export async function open(check, { context: options, args = [] } = {}) {
  const browser = await chromium.launch({
    executablePath: browserPath,
    args: ['--no-sandbox', ...args],
    timeout: PATIENCE,
  });
  try {
    const context = await browser.newContext(options);
    context.setDefaultTimeout(PATIENCE);
    const complaints = [];
    context.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    context.on('weberror', (error) => complaints.push(String(error.error())));
    const page = await context.newPage();
    await page.goto(`http://${admin}/watch`);
    // From now on it misses nothing.
    await reads(page.locator('#server'), /process \d+/);
    await check(page, complaints);
    assert.deepEqual(complaints, [], 'the browser complains');
  } finally {
    await browser.close();
  }
}

/** Waits until something is so, and returns what it is. */
export async function eventually(what, look) {
  const deadline = Date.now() + PATIENCE;
  let last;
  while (Date.now() < deadline) {
    last = await look();
    if (last) return last;
    await sleep(50);
  }
  throw new Error(`it is still not so that ${what}: ${last}`);
}

/** A peer of the server. */
export class Peer {
  static connect(localAddress = '127.0.0.1') {
    const [host, port] = service.split(':');
    return new Peer(net.connect({ host, port: Number(port), localAddress, allowHalfOpen: true }));
  }

  /** A peer that reads nothing until its socket is resumed, and keeps nothing of what it reads. */
  static unread() {
    const peer = Peer.connect();
    peer.keeps = false;
    peer.socket.pause();
    return peer;
  }

  constructor(socket) {
    this.socket = socket;
    this.keeps = true;
    this.received = '';
    this.count = 0;
    this.error = null;
    this.ended = false;
    /** The address, as the server sees it, once the connection is made. */
    this.address = null;
    socket.on('connect', () => (this.address = `${socket.localAddress}:${socket.localPort}`));
    socket.on('data', (chunk) => {
      this.count += chunk.length;
      if (this.keeps) this.received += chunk;
    });
    socket.on('end', () => (this.ended = true));
    socket.on('error', (error) => (this.error = error.code));
  }

  /** Sends text to the echo, and waits until it is back. */
  async echo(text) {
    const expected = this.received + text;
    this.socket.write(text);
    await eventually(`\`${text}\` is echoed`, () => this.received === expected || this.error);
    assert.equal(this.error, null);
    return this;
  }

  /** Whether the server resets the connection. */
  async isReset() {
    await eventually('the connection has ended', () => this.error || this.ended);
    assert.equal(this.error, 'ECONNRESET');
  }
}

/** The row of a peer in the list. */
export function rowOf(page, peer) {
  const cell = page.locator('td', { hasText: new RegExp(`^${peer.address}$`) });
  return page.locator('#rows tr').filter({ has: cell });
}

/** What the list says of the state of a peer. */
export const stateOf = (page, peer) => rowOf(page, peer).locator('td').nth(2);

/** What the list says of the end of a peer. */
export const outcomeOf = (page, peer) => rowOf(page, peer).locator('td').last();

/** The rows of a kind in the ladder. */
export const rungs = (page, kind) => page.locator(`#ladder g.row.${kind}`);

/** Who, what and which state the table below the ladder has, row by row. */
export async function table(page) {
  const rows = await page.locator('#events tr').all();
  const texts = await Promise.all(rows.map((row) => row.locator('td').allTextContents()));
  return texts.map(([, from, what, state]) => [from, what, state]);
}

/** Waits until a peer has a row, and shows its ladder. Returns its number. */
export async function choose(page, peer) {
  await eventually('it is connected', () => peer.address);
  const link = rowOf(page, peer).locator('a');
  await link.click();
  const id = await link.textContent();
  await eventually('its ladder is shown', async () => {
    return (await page.locator('#detail-heading').textContent()) === `Connection ${id}`;
  });
  return id;
}

/** Waits until an element has a text. */
export async function reads(locator, text) {
  await eventually(`${locator} reads \`${text}\``, async () => {
    const found = await locator.textContent();
    return text instanceof RegExp ? text.test(found) : found === text;
  });
}

/** Waits until there are so many elements. */
export async function counts(locator, count) {
  await eventually(`${locator} counts ${count}`, async () => (await locator.count()) === count);
}
