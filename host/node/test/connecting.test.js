import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';

import { connectPolicy, isPeer } from '../src/policy.js';
import { serving, until } from './client.js';

/** @param {string} text */
function address(text) {
  const [, host, port] = /** @type {RegExpExecArray} */ (/^\[?(.+?)\]?:(\d+)$/.exec(text));
  return { host, port: Number(port) };
}

test('a service connects where a rule allows it, and nowhere else', async (t) => {
  const upstream = net.createServer((socket) => socket.end('hello'));
  await new Promise((/** @type {(value?: any) => void} */ resolve) =>
    upstream.listen(0, '127.0.0.1', resolve),
  );
  t.after(() => upstream.close());
  const { port } = /** @type {net.AddressInfo} */ (upstream.address());

  const open = await serving(t, 'wheel', { allowConnect: [`127.0.0.1:${port}`] });
  const client = await open.connect();
  client.send(`connect ${port}\n`);
  await until(() => client.received.includes('data 2 hello'));

  const closed = await serving(t, 'wheel', { allowConnect: ['0.0.0.0/0:*'] });
  const other = await closed.connect();
  other.send(`connect ${port}\n`);
  await until(() => other.received.includes('denied access-denied'));
  assert.match(
    closed.logged[0].message,
    /may not connect to 127\.0\.0\.1:\d+: allow it with `allowConnect` or --allow-connect/,
  );
});

test('nothing is allowed without a rule', () => {
  assert.equal(connectPolicy([])(address('192.0.2.1:1')), false);
});

test('a rule for the internet does not open the inner network', () => {
  const may = connectPolicy(['0.0.0.0/0:*', '::/0']);
  for (const open of ['192.0.2.1:1', '[2001:db8::1]:1']) assert.ok(may(address(open)), open);
  for (const inner of [
    '127.0.0.1:1',
    '10.1.2.3:1',
    '169.254.169.254:80',
    '[::1]:1',
    '[fd00::1]:1',
    '[64:ff9b::10.1.2.3]:1',
    '[2002:a01:203::1]:1',
    '[2001:0:c000:201::f5fe:fdfc]:1',
    '[fe80::1]:1',
    '[::10.1.2.3]:1',
    '[2001:db8::5efe:a01:203]:1',
    '[2001:db8::200:5efe:a01:203]:1',
  ])
    assert.ok(!may(address(inner)), inner);
});

test('a rule within a private network, and one for a single address, do', () => {
  const may = connectPolicy(['10.0.0.0/8:8000-8999', '[64:ff9b::10.1.2.3]:*', '[fd00::]/16:7']);
  assert.ok(may(address('10.1.2.3:8080')));
  assert.ok(!may(address('10.1.2.3:9000')));
  assert.ok(!may(address('11.1.2.3:8080')));
  assert.ok(may(address('[64:ff9b::a01:203]:1')));
  assert.ok(may(address('[fd00::1]:7')));
  assert.ok(!may(address('[fd01::1]:7')));
});

test('what is no rule is an error that shows how to write one', () => {
  for (const wrong of [
    'localhost:80',
    '127.0.0.1',
    '127.0.0.1:70000',
    '127.0.0.1:9-8',
    '::1:80',
    '10.0.0.0/33',
    '',
  ]) {
    assert.throws(() => connectPolicy([wrong]), /is not an address rule; write/, wrong);
  }
});

test('some addresses are never a peer', () => {
  for (const never of [
    '127.0.0.1:0',
    '0.0.0.0:1',
    '224.0.0.1:1',
    '[::]:1',
    '[ff02::1]:1',
    '[::ffff:10.0.0.1]:1',
  ]) {
    assert.ok(!isPeer(address(never)), never);
  }
  assert.ok(isPeer(address('127.0.0.1:1')));
});
