// The parts of the page that need no browser: the model, the search and the words.

import assert from 'node:assert/strict';
import { test } from 'node:test';

const assets = new URL('../../../host/cli/src/observe/page/assets/', import.meta.url);
const { Model } = await import(new URL('model.js', assets));
const { networkOf, search } = await import(new URL('search.js', assets));
const { bytes, content, describe, visible } = await import(new URL('words.js', assets));

const HELLO = { event: 'hello', version: 1, pid: 7, began: 'then', services: ['echo'] };

/** Makes a model, and a function that gives it events with the next numbers. */
function begun(limits) {
  const model = new Model(limits);
  model.apply(HELLO);
  let seq = 0;
  const happen = (event, id, rest = {}) => {
    seq += 1;
    return model.apply({ event, id, seq, at: seq / 10, ...rest });
  };
  return { model, happen };
}

const PEER = { peer: '192.0.2.1:5000', local: '127.0.0.1:1234', service: 'echo' };

test('each state has its name', () => {
  for (const [fins, expected] of [
    [[], 'ESTABLISHED'],
    [['in'], 'CLOSE-WAIT'],
    [['out'], 'FIN-WAIT-1'],
    [['out', 'acknowledged'], 'FIN-WAIT-2'],
    [['in', 'out'], 'LAST-ACK'],
    [['out', 'in'], 'TIME-WAIT'],
    [['out', 'acknowledged', 'in'], 'TIME-WAIT'],
    [['rst'], 'CLOSED'],
    [['in', 'rst'], 'CLOSED'],
  ]) {
    const { happen } = begun();
    const connection = happen('accepted', 1, PEER);
    for (const step of fins) {
      if (step.length > 3) happen(step, 1);
      else if (step === 'rst') happen(step, 1, { dir: 'in' });
      else happen('fin', 1, { dir: step });
    }
    assert.equal(connection.state, expected);
    assert.equal(connection.events.at(-1).state, fins.length > 0 ? expected : undefined);
    happen('closed', 1, { outcome: 'fin', first: fins[0], received: 0, sent: 0, age: 1 });
    assert.equal(connection.state, 'CLOSED');
  }
});

test('what a snapshot says of a FIN is named where its event follows, and nowhere wrongly', () => {
  const snapshot = { event: 'connection', id: 1, ...PEER, began: 0, received: 0, sent: 0, in: 'open', out: 'ended' };
  const states = ({ events }) => events.map(({ state }) => state);
  // All of it is kept.
  let { model, happen } = begun();
  model.apply({ ...snapshot, acknowledged: true });
  happen('accepted', 1, PEER);
  happen('fin', 1, { dir: 'out' });
  let connection = happen('acknowledged', 1);
  assert.deepEqual(states(connection), [undefined, 'FIN-WAIT-1', 'FIN-WAIT-2']);
  happen('fin', 1, { dir: 'in' });
  assert.deepEqual(states(connection).at(-1), 'TIME-WAIT');
  // The beginning is not kept.
  ({ model, happen } = begun());
  model.apply({ ...snapshot, in: 'ended', out: 'open' });
  happen('fin', 1, { dir: 'in' });
  connection = happen('data', 1, { dir: 'out', offset: 0, length: 1 });
  assert.equal(connection.state, 'CLOSE-WAIT');
  assert.deepEqual(states(connection), [undefined, undefined]);
  // After a loss, what was told is not all.
  ({ model, happen } = begun());
  connection = happen('accepted', 1, PEER);
  model.apply({ event: 'lost', count: 1 });
  model.apply({ ...snapshot, in: 'ended', out: 'open' });
  happen('fin', 1, { dir: 'out' });
  assert.deepEqual([connection.state, ...states(connection)], ['LAST-ACK', undefined, 'LAST-ACK']);
});

test('the end of a stretch says how long it was', () => {
  const { happen } = begun();
  const connection = happen('accepted', 1, PEER);
  happen('blocked', 1, { dir: 'out', by: 'peer' });
  happen('paused', 1);
  happen('unblocked', 1, { dir: 'in', by: 'service' });
  happen('unblocked', 1, { dir: 'out', by: 'peer' });
  happen('resumed', 1);
  assert.deepEqual(
    connection.events.slice(3).map(describe),
    ['moves again from the peer', 'moves again to the peer, after 0.300 s', 'the service goes on, after 0.300 s'],
  );
});

test('bytes are counted once, whatever is kept of before the snapshot', () => {
  const { model, happen } = begun();
  model.apply({ event: 'connection', id: 1, ...PEER, began: 0, received: 10, sent: 3, in: 'open', out: 'open' });
  happen('data', 1, { dir: 'in', offset: 0, length: 6 });
  happen('data', 1, { dir: 'in', offset: 6, length: 4 });
  const connection = happen('data', 1, { dir: 'in', offset: 10, length: 5 });
  assert.deepEqual([connection.received, connection.sent], [15, 3]);
  assert.equal(connection.events.length, 3);
});

test('what comes again after the stream was cut changes nothing', () => {
  const { model, happen } = begun();
  const connection = happen('accepted', 1, PEER);
  const again = { event: 'data', id: 1, seq: 2, at: 1, dir: 'in', offset: 0, length: 4 };
  model.apply(again);
  model.apply(HELLO);
  model.apply(again);
  assert.equal(connection.events.length, 2);
});

test('another process begins anew', () => {
  for (const other of [{ pid: 8 }, { began: 'later' }]) {
    const { model, happen } = begun();
    happen('accepted', 1, PEER);
    model.apply({ ...HELLO, ...other });
    assert.equal(model.connections.size, 0);
    assert.ok(model.apply({ event: 'accepted', id: 1, seq: 1, at: 0, ...PEER }));
  }
});

test('a balancer names the peer', () => {
  const { happen } = begun();
  const connection = happen('accepted', 1, PEER);
  happen('proxy', 1, { peer: '198.51.100.9:1', local: '203.0.113.1:80' });
  assert.equal(connection.peer, '198.51.100.9:1');
  happen('proxy', 1, { check: true });
  assert.equal(connection.peer, '198.51.100.9:1');
});

test('what is kept is bounded, and the oldest that have ended go first', () => {
  const limits = { ended: 3, open: 4, events: 5, allEvents: 40 };
  const { model, happen } = begun(limits);
  for (let id = 1; id <= 10; id += 1) {
    happen('accepted', id, PEER);
    happen('closed', id, { outcome: 'fin' });
  }
  assert.deepEqual([...model.connections.keys()], [8, 9, 10]);
  for (let id = 11; id <= 20; id += 1) {
    happen('accepted', id, PEER);
    for (let count = 0; count < 20; count += 1) {
      happen('data', id, { dir: 'in', offset: count, length: 1 });
      assert.ok(model.kept <= limits.allEvents);
    }
  }
  assert.equal(model.connections.size, 3 + 4);
  const connection = model.connections.get(11);
  assert.deepEqual([connection.events.length, connection.dropped], [5, 16]);
  assert.equal(connection.received, 20);
  let kept = 0;
  for (const { events } of model.connections.values()) kept += events.length;
  assert.equal(model.kept, kept);
});

test('all events together are bounded', () => {
  const { model, happen } = begun({ ended: 100, open: 100, events: 50, allEvents: 400 });
  for (let id = 1; id <= 100; id += 1) happen('accepted', id, PEER);
  for (let count = 0; count < 3000; count += 1) {
    happen('data', 1 + (count % 20), { dir: 'out', offset: count, length: 1 });
    assert.ok(model.kept <= 400, String(model.kept));
  }
});

test('of many connections each keeps a little, and the chosen one what it has', () => {
  const limits = { ended: 10, open: 1000, events: 400, allEvents: 6000 };
  const { model, happen } = begun(limits);
  for (let id = 1; id <= 1000; id += 1) happen('accepted', id, PEER);
  model.chosen = 7;
  let [times, before] = [0, model.kept];
  for (let count = 0; count < 20_000; count += 1) {
    happen('data', 1 + (count % 1000), { dir: 'out', offset: count, length: 1 });
    if (model.kept < before) times += 1;
    assert.ok(model.kept <= limits.allEvents, String(model.kept));
    before = model.kept;
  }
  // Not with each event.
  assert.ok(times > 0 && times <= 20_000 / (limits.allEvents / 4) + 1, String(times));
  assert.equal(model.connections.get(7).events.length, 21);
  for (const { events } of model.connections.values()) assert.ok(events.length > 0);
});

test('after a loss, what is not open any more has ended, until its end comes after all', () => {
  const { model, happen } = begun();
  for (const id of [1, 2, 3]) happen('accepted', id, PEER);
  for (const id of [1, 2]) happen('served', id, { instance: 5 });
  model.apply({ event: 'lost', count: 9 });
  model.reconcile(new Set([1]), model.at + 1);
  assert.deepEqual(
    [...model.connections.values()].map(({ outcome }) => outcome),
    // The third one is still arriving.
    ['', 'unknown', ''],
  );
  assert.equal(model.lost, 9);
  const second = happen('closed', 2, { outcome: 'reset-by-peer', received: 1, sent: 2, age: 1 });
  assert.equal(second.outcome, 'reset-by-peer');
  assert.equal(model.endedIds.size, 1);
});

test('a trap is an event of each connection of its instance', () => {
  const { model, happen } = begun();
  for (const [id, instance] of [[1, 5], [2, 6], [3, 5]]) {
    happen('accepted', id, PEER);
    happen('served', id, { instance });
  }
  happen('closed', 3, { outcome: 'fin' });
  happen('instance', undefined, { instance: 5, service: 'echo', what: 'trapped', message: 'unreachable' });
  const traps = (id) => model.connections.get(id).events.filter(({ event }) => event === 'instance').length;
  assert.deepEqual([traps(1), traps(2), traps(3)], [1, 0, 0]);
});

test('a search has words and keys', () => {
  const connection = {
    id: 17, peer: '10.1.2.3:4000', service: 'echo', state: 'CLOSE-WAIT', outcome: '', instance: 4,
  };
  for (const [text, expected] of [
    ['', true],
    ['peer:10.0.0.0/8', true],
    ['peer:10.1.2.3/32', true],
    ['peer:10.1.2.4/32', false],
    ['peer:11.0.0.0/8', false],
    ['peer:0.0.0.0/0', true],
    ['peer:2001:db8::/32', false],
    ['peer:10.1', true],
    ['PEER:10.1', true],
    ['state:close-wait', true],
    ['state:CLOSE', true],
    ['state:established', false],
    ['-state:established', true],
    ['state:open', true],
    ['state:half-open', true],
    ['state:blocked', false],
    ['state:ope', false],
    ['service:echo state:close', true],
    ['service:echo state:fin', false],
    ['instance:4', true],
    ['instance:44', false],
    ['instance:', true],
    ['id:1', false],
    ['outcome:fin', false],
    ['-outcome:fin', true],
    ['4000', true],
    ['(', false],
    ['-', true],
  ]) {
    assert.equal(search(text)(connection), expected, text);
  }
  assert.ok(search('state:blocked')({ ...connection, blocked: { in: null, out: {} } }));
  assert.ok(!search('state:open')({ ...connection, closed: {} }));
  assert.ok(!search('state:half-open')({ ...connection, state: 'LAST-ACK' }));
  const six = { ...connection, peer: '[2001:db8::1:2]:80' };
  for (const [text, expected] of [
    ['peer:2001:db8::/32', true],
    ['peer:2001:db8:0:0:0:0:1:2/128', true],
    ['peer:2001:db9::/32', false],
    ['peer:::/0', true],
    ['peer:10.0.0.0/8', false],
  ]) {
    assert.equal(search(text)(six), expected, text);
  }
  assert.ok(search('peer:192.0.2.0/24')({ ...connection, peer: '[::ffff:192.0.2.5]:1' }));
});

test('a peer has the network that counts as one customer', () => {
  for (const [peer, expected] of [
    ['10.1.2.3:4000', '10.1.2.3/32'],
    ['[2001:db8:1:2:3::4]:80', '2001:db8:1:2::/64'],
    ['[::1]:80', '0:0:0:0::/64'],
    ['[::ffff:10.1.2.3]:80', '10.1.2.3/32'],
    ['', ''],
  ]) {
    assert.equal(networkOf(peer), expected);
  }
});

test('text of peers is made visible', () => {
  for (const [text, expected] of [
    ['plain ä 漢', 'plain ä 漢'],
    ['a\nb\r\t', 'a\\nb\\r\\t'],
    ['\u001b[31m', '\\u{1b}[31m'],
    ['a\u202eb\u200b', 'a\\u{202e}b\\u{200b}'],
    [null, ''],
  ]) {
    assert.equal(visible(text), expected);
  }
  const payload = (text) => ({ payload: Buffer.from(text).toString('base64') });
  assert.equal(content(payload('hi\n')), 'hi\\n');
  assert.equal(content({ ...payload('hi'), cut: true }), 'hi…');
  assert.equal(content(payload('x'.repeat(1000)), 10), 'xxxxxxxxxx…');
  assert.equal(content({}), '');
});

test('every event has words', () => {
  const events = [
    [{ event: 'accepted', local: '127.0.0.1:1' }, 'accepted on 127.0.0.1:1'],
    [{ event: 'accepted', local: '0.0.0.0:0' }, 'accepted'],
    [{ event: 'proxy', check: true }, 'health check of the load balancer'],
    [{ event: 'tls', version: 'TLSv1.3', name: 'a', alpn: null }, 'TLSv1.3, for a'],
    [{ event: 'data', length: 1536 }, '1.5 KiB'],
    [{ event: 'error', code: 'timeout', message: '' }, 'error timeout'],
    [{ event: 'blocked', dir: 'out', by: 'peer' }, 'blocked to the peer: the window of the peer is full'],
    [{ event: 'unblocked', dir: 'in' }, 'moves again from the peer'],
    [{ event: 'acknowledged' }, 'the peer has acknowledged the FIN'],
    [{ event: 'limit', limit: 'idle' }, 'limit: idle'],
    [{ event: 'instance', instance: 3, what: 'trapped', message: 'x' }, 'instance 3 trapped: x'],
    [{ event: 'closed', outcome: 'fin' }, 'closed: fin'],
    [{ event: 'of-a-later-version' }, 'of-a-later-version'],
  ];
  for (const [event, expected] of events) assert.equal(describe(event), expected);
  assert.deepEqual([0, 1023, 1024, 5 * 2 ** 30].map(bytes), ['0 B', '1023 B', '1.0 KiB', '5.0 GiB']);
});
