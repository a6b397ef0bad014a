import assert from 'node:assert/strict';
import { test } from 'node:test';

import { listenAddress, Network } from '../src/address.js';
import { parse } from '../src/arguments.js';

test('flags become options', () => {
  const words = [
    'echo.wasm',
    '--listen',
    '[::1]:7',
    '--listen=8',
    '--isolation',
    'shared',
    '--max-memory',
    '32',
    '--idle-timeout',
    '0',
    '--env',
    'A=b=c',
    '--allow-connect',
    '10.0.0.7:5432',
    '--grace',
    '1',
    '--',
    '--quiet',
    'x',
  ];
  const { component, listen, options, grace } = parse(words);
  assert.equal(component, 'echo.wasm');
  assert.deepEqual(listen, [
    { host: '::1', port: 7 },
    { host: '127.0.0.1', port: 8 },
  ]);
  assert.deepEqual(options, {
    args: ['--quiet', 'x'],
    env: { A: 'b=c' },
    allowConnect: ['10.0.0.7:5432'],
    isolation: 'shared',
    maxMemory: 32 << 20,
    idleTimeout: 0,
  });
  assert.equal(grace, 1_000);
});

test('a mistake is one line that says what is right', () => {
  for (const [words, why] of /** @type {[string[], RegExp][]} */ ([
    [[], /which component/],
    [['a.wasm', 'b.wasm'], /two components/],
    [['a.wasm', '--lisen', '1'], /no flag --lisen/],
    [['a.wasm', '--listen'], /a value is missing after --listen/],
    [['a.wasm', '--max-memory', '0'], /--max-memory takes a whole number, at least 1/],
    [['a.wasm', '--grace', '1e3'], /--grace takes a whole number/],
    [['a.wasm', '--env', 'A'], /write NAME=VALUE/],
    [['a.wasm', '--constructor', 'A'], /no flag/],
  ]))
    assert.throws(() => parse(words), why, words.join(' '));
});

test('addresses to listen on', () => {
  assert.deepEqual(listenAddress('1234'), { host: '127.0.0.1', port: 1234 });
  assert.deepEqual(listenAddress(':0'), { host: '127.0.0.1', port: 0 });
  assert.deepEqual(listenAddress('localhost:1'), { host: '127.0.0.1', port: 1 });
  for (const wrong of [
    '',
    'x',
    '127.0.0.1',
    '127.0.0.1:-1',
    '127.0.0.1:65536',
    'example.org:1',
    '::1:80:',
    '1.2.3:4',
  ]) {
    assert.throws(() => listenAddress(wrong), /not an address to listen on/, wrong);
  }
});

test('networks', () => {
  const contains = (/** @type {string} */ network, /** @type {string} */ address) =>
    /** @type {Network} */ (Network.parse(network)).contains(/** @type {Network} */ (Network.parse(address)));
  assert.ok(contains('10.0.0.0/9', '10.127.255.255'));
  assert.ok(!contains('10.0.0.0/9', '10.128.0.0'));
  assert.ok(!contains('10.0.0.0/9', '10.0.0.0/8'));
  assert.ok(!contains('0.0.0.0/0', '::1'));
  assert.ok(contains('2001:db8::/33', '2001:db8:7fff::1'));
  assert.equal(Network.parse('10.0.0.0/33'), null);
});
