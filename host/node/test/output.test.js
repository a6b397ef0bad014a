import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { test } from 'node:test';

import { Log } from '../src/log.js';
import { Lines, Printer } from '../src/output.js';

const bytes = (/** @type {string} */ text) => Buffer.from(text);

test('lines are printed whole', () => {
  /** @type {string[]} */
  const printed = [];
  const lines = new Lines((line) => printed.push(Buffer.from(line).toString()));
  lines.write(bytes('one'));
  lines.write(bytes(' line\nand '));
  assert.deepEqual(printed, ['one line\n']);
  lines.write(bytes('another\nthird\nrest'));
  lines.end();
  lines.end();
  assert.deepEqual(printed, ['one line\n', 'and another\nthird\n', 'rest\n']);
});

test('a line without end is broken', () => {
  let longest = 0;
  let all = 0;
  const lines = new Lines((line) => {
    longest = Math.max(longest, line.length);
    all += line.length;
  });
  for (let count = 0; count < 100; count += 1) lines.write(Buffer.alloc(10_000, 'x'));
  assert.ok(longest > 0 && longest <= 65_536 + 10_000 + 1, `${longest}`);
  assert.ok(all > 900_000);
});

test('what a slow reader does not take is dropped, and a reader that has gone harms nobody', async () => {
  const slow = new PassThrough();
  /** @type {number[]} */
  const reports = [];
  const printer = new Printer(slow, (lines) => reports.push(lines));
  const line = bytes(`${'x'.repeat(9_999)}\n`);
  for (let count = 0; count < 1_000; count += 1) printer.print(line);
  assert.ok(slow.writableLength <= (512 << 10) + 10_000 && slow.writableLength > 100_000);
  assert.deepEqual(reports, []);
  let read = 0;
  slow.on('data', (data) => (read += data.length));
  while (slow.writableLength > 0) await new Promise((resolve) => setImmediate(resolve));
  printer.print(line);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(reports.length, 1);
  assert.equal(read / 10_000 + reports[0], 1_001);
  const gone = new Writable({ write: (_data, _encoding, done) => done(new Error('EPIPE')) });
  const other = new Printer(gone, () => assert.fail());
  other.print(bytes('x\n'));
  await new Promise((resolve) => setImmediate(resolve));
  other.print(bytes('y\n'));
});

test('a flood of the same kind is logged ten times', () => {
  /** @type {string[]} */
  const logged = [];
  const log = new Log(({ message }) => logged.push(message));
  for (let count = 0; count < 1_000; count += 1) log.warn('trap', 'it\ntrapped');
  log.warn('refused', 'another kind');
  assert.equal(logged.length, 11);
  assert.equal(logged[0], 'it\\u{a}trapped');
});
