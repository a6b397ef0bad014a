import assert from 'node:assert/strict';
import { test } from 'node:test';

import { serving, until } from './client.js';

/** What makes the guest `rogue` do something in the event `data`. @param {string} action */
const order = (action) => Buffer.from([0xff, 0xfe, 'd'.charCodeAt(0), action.charCodeAt(0)]);

/** @param {any} client */
async function isServed(client) {
  client.send('x');
  assert.equal(await client.receive(1), 'x');
}

test('a trap resets its connection alone, and says whose it was', async (t) => {
  const { connect, logged } = await serving(t, 'rogue', { isolation: 'connection' });
  const other = await connect();
  await isServed(other);
  const bad = await connect();
  bad.send(order('t'));
  assert.equal(await bad.ended(), 'ECONNRESET');
  assert.match(logged[0].message, /^the service trapped: unreachable/);
  assert.equal(logged[0].peer, `127.0.0.1:${bad.socket.localPort ?? logged[0].peer?.split(':')[1]}`);
  await isServed(other);
  await isServed(await connect());
});

test('a trap of a shared instance resets its connections, and a new one serves', async (t) => {
  const { connect } = await serving(t, 'rogue', { isolation: 'shared' });
  const other = await connect();
  await isServed(other);
  const bad = await connect();
  bad.send(order('t'));
  assert.equal(await bad.ended(), 'ECONNRESET');
  assert.equal(await other.ended(), 'ECONNRESET');
  await isServed(await connect());
});

for (const isolation of /** @type {const} */ (['connection', 'shared'])) {
  test(`memory has a limit: ${isolation}`, async (t) => {
    const { connect, logged } = await serving(t, 'rogue', { isolation, maxMemory: 32 << 20 });
    const bad = await connect();
    bad.send(order('m'));
    assert.equal(await bad.ended(), 'ECONNRESET');
    assert.match(logged[0].message, /^the service trapped/);
    await isServed(await connect());
  });

  test(`what is written and not sent has a limit: ${isolation}`, async (t) => {
    const { connect } = await serving(t, 'rogue', { isolation, maxMemory: 32 << 20 });
    const other = await connect();
    await isServed(other);
    const bad = await connect();
    bad.socket.pause();
    bad.send(order('f'));
    await isServed(other);
    bad.socket.resume();
    // A reset, which a client on Node may take for an end behind the last bytes.
    await bad.ended();
    assert.ok(bad.received.length < 32 << 20, `${bad.received.length}`);
    await isServed(other);
  });

  test(`a connection beyond the limit waits for a place: ${isolation}`, async (t) => {
    const { connect } = await serving(t, 'rogue', { isolation, maxConnections: 1 });
    const first = await connect();
    await isServed(first);
    const second = await connect();
    second.send('y');
    await isServed(first);
    assert.equal(second.received.length, 0);
    first.socket.end();
    assert.equal(await second.receive(1), 'y');
    // One that gives up while it waits is not served.
    const third = await connect();
    third.socket.resetAndDestroy();
    second.socket.end();
    assert.equal(await second.ended(), 'fin');
    await isServed(await connect());
  });

  test(`an idle connection is reset, and not too early: ${isolation}`, async (t) => {
    const { connect, logged } = await serving(t, 'rogue', { isolation, idleTimeout: 300 });
    const idle = await connect();
    await isServed(idle);
    const began = performance.now();
    await isServed(idle);
    assert.equal(await idle.ended(), 'ECONNRESET');
    assert.ok(performance.now() - began >= 300);
    assert.deepEqual(logged, []);
  });
}

test('instances of their own begin anew, and end with their connection', async (t) => {
  const { connect, printed } = await serving(t, 'echo', { isolation: 'connection' });
  for (let round = 0; round < 3; round += 1) {
    const client = await connect();
    client.send('q');
    client.socket.end();
    assert.equal(await client.ended(), 'fin');
  }
  await until(() => printed.filter((line) => line === 'EOF.\n').length === 3);
});
