import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { test } from 'node:test';

import { listener, serve } from '../src/index.js';
import { Client, guest, serving, until } from './client.js';

test('a server echoes, prints, and lets each direction end on its own', async (t) => {
  const { connect, printed } = await serving(t, 'echo');
  const client = await connect();
  client.send('hi');
  assert.equal(await client.receive(2), 'hi');
  client.socket.end();
  assert.equal(await client.ended(), 'fin');
  await until(() => printed.length === 3);
  assert.match(printed[0], /^new connection 127\.0\.0\.1 \d+\n$/);
  assert.deepEqual(printed.slice(1), ['data: <Buffer 68 69>\n', 'EOF.\n']);
});

test('the arguments reach the service', async (t) => {
  const { connect, printed } = await serving(t, 'echo', { args: ['--quiet'] });
  const client = await connect();
  client.send('q');
  assert.equal(await client.receive(1), 'q');
  assert.equal(await client.ended(), 'fin');
  assert.deepEqual(printed, []);
});

test('the contents of a file are as good as its path', async (t) => {
  const server = await serve(await readFile(guest('echo')), { port: 0, args: ['--quiet'] });
  t.after(() => server.stop(0));
  const client = await Client.connect(/** @type {net.AddressInfo} */ (server.address()).port);
  client.send('x');
  assert.equal(await client.receive(1), 'x');
});

test("a server of one's own serves a component", async (t) => {
  const serves = await listener(guest('echo'), { args: ['--quiet'] });
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, serves);
  await new Promise((/** @type {(value?: any) => void} */ resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const client = await Client.connect(/** @type {net.AddressInfo} */ (server.address()).port);
  client.send('xq');
  assert.equal(await client.receive(2), 'xq');
  assert.equal(await client.ended(), 'fin');
  client.socket.end();
});

test('megabytes go both ways at once, and nothing is lost', async (t) => {
  const { connect } = await serving(t, 'echo', { args: ['--quiet'] });
  const client = await connect();
  const sent = Buffer.alloc(8 << 20, /** @type {any} */ ('0123456789abcde'));
  client.send(sent);
  client.socket.end();
  assert.equal(await client.ended(), 'fin');
  assert.ok(client.received.equals(sent));
});

test('a chat shares an instance because it declares that', async (t) => {
  const { connect } = await serving(t, 'chat');
  const [one, two] = [await connect(), await connect()];
  one.send('one\n');
  await until(() => one.received.includes('Welcome'));
  two.send('two\n');
  await until(() => two.received.includes('Welcome'));
  one.send('hello\n');
  await until(() => two.received.includes('one: hello\n'));
});

test('a contradiction to the declaration is obeyed, and logged', async (t) => {
  const { logged } = await serving(t, 'chat', { isolation: 'connection' });
  assert.match(logged[0].message, /declares the isolation `shared`, and gets `connection`/);
});

test('stopping lets connections finish, and resets those that do not', async (t) => {
  const { server, connect } = await serving(t, 'echo', { args: ['--quiet'] });
  const [good, bad] = [await connect(), await connect()];
  for (const client of [good, bad]) {
    client.send('x');
    assert.equal(await client.receive(1), 'x');
  }
  const stopped = server.stop(200);
  good.send('y');
  assert.equal(await good.receive(1), 'y');
  good.socket.end();
  assert.equal(await good.ended(), 'fin');
  assert.equal(await stopped, 1);
  assert.equal(await bad.ended(), 'ECONNRESET');
});

test('a port that is taken is an error, and leaves nothing behind', async (t) => {
  const { port } = await serving(t, 'echo');
  await assert.rejects(() => serve(guest('echo'), { port }), { code: 'EADDRINUSE' });
});

test('a reset is seen although nothing is read or written', async (t) => {
  const { connect, printed } = await serving(t, 'orders', { args: ['--allow-half-open'] });
  const [half, paused] = [await connect(), await connect()];
  half.send('z');
  half.socket.end();
  await until(() => printed.join('') === 'end\n');
  half.socket.resetAndDestroy();
  await until(() => printed.join('') === 'end\nerror EPIPE\nclose true\n');
  paused.send('wp');
  assert.equal(await paused.receive(5), 'hello');
  paused.send('more');
  // Once it has arrived, it is not read: neither data nor the reset shows by itself.
  await new Promise((resolve) => setTimeout(resolve, 50));
  paused.socket.resetAndDestroy();
  await until(() => printed.join('').endsWith('close true\nerror ECONNRESET\nclose true\n'));
});
