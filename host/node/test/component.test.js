import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { load } from '../src/component.js';
import { ComponentError, serve } from '../src/index.js';
import { guest } from './client.js';

const MEMORY = 256 << 20;

/** @param {import('../index.js').ServeOptions['args'] | Uint8Array | URL | string} source */
const refuses = (source, /** @type {RegExp} */ why) =>
  assert.rejects(
    () => load(/** @type {any} */ (source), MEMORY),
    (/** @type {Error} */ error) => {
      assert.ok(error instanceof ComponentError);
      assert.match(error.message, why);
      assert.ok(!error.message.includes('\n'));
      return true;
    },
  );

/** Replaces a text of the same length in a component. @param {string} from @param {string} to */
async function changed(from, to) {
  assert.equal(from.length, to.length);
  const bytes = await readFile(guest('echo'));
  const text = bytes.toString('latin1');
  assert.ok(text.includes(from));
  return Buffer.from(text.replaceAll(from, to), 'latin1');
}

test('what is no service in callback style is refused, and named', async () => {
  await refuses('nowhere.wasm', /^cannot read the component: ENOENT/);
  await refuses(Buffer.from('hello'), /^the component: not WebAssembly/);
  await refuses(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0), /a core module or another version/);
  await refuses(guest('digest'), /a service in await style: the native command/);
  await refuses(guest('primitives'), /a program: the native command/);
  await refuses(guest('adapter'), /it is something else/);
});

test('an interface that this host does not have is named', async () => {
  await refuses(
    await changed('wasi:cli/environment@0.2.0', 'wasi:cli/environmint@0.2.0'),
    /it imports `wasi:cli\/environmint@0\.2\.0`/,
  );
  await refuses(
    await changed('wasi:cli/environment@0.2.0', 'wasi:cli/environment@0.3.0'),
    /`wasi:cli\/environment@0\.3\.0`, which this host does not have/,
  );
  await refuses(
    await changed('get-arguments', 'got-arguments'),
    /it imports `got-arguments` of `wasi:cli\/environment@0\.2\.0`/,
  );
});

test('a newer version of the same interface is the same', async () => {
  await load(await changed('wasi:cli/environment@0.2.0', 'wasi:cli/environment@0.2.9'), MEMORY);
});

test('a function of another type is refused', async () => {
  // `allow` of `allow-half-open` is called `milliseconds` elsewhere; a name is part of the type.
  await refuses(
    await changed('milliseconds', 'microseconds'),
    /`set-timeout` of `halfopen:tcp\/sockets@0\.1\.0` with another type/,
  );
});

test('too little memory is an error at the start', async () => {
  await assert.rejects(
    () => load(guest('echo'), 1 << 20),
    /it begins with 2 MiB of memory, and may have 1 MiB/,
  );
  await assert.rejects(
    () => serve(guest('echo'), { maxMemory: 1 }),
    /the option `maxMemory` is a whole number, at least 65536/,
  );
});

test('a component is compiled once for each limit', async () => {
  const [one, two] = await Promise.all([load(guest('echo'), MEMORY), load(guest('echo'), MEMORY)]);
  assert.equal(one, two);
  assert.notEqual(await load(guest('echo'), MEMORY / 2), one);
});

test('an option that does not exist is an error', async () => {
  await assert.rejects(
    () => serve(guest('echo'), /** @type {any} */ ({ prot: 1 })),
    /there is no option `prot`/,
  );
  await assert.rejects(
    () => serve(guest('echo'), /** @type {any} */ ({ isolation: 'some' })),
    /and not `some`/,
  );
  await assert.rejects(
    () => serve(guest('echo'), { allowConnect: ['everywhere'] }),
    /is not an address rule/,
  );
});

test('a file that is cut short or damaged is an error, and nothing else', async () => {
  const bytes = await readFile(guest('rogue'));
  const tries = async (/** @type {Uint8Array} */ damaged) => {
    try {
      const server = await serve(damaged, { port: 0, log: () => {}, stdout: () => {}, stderr: () => {} });
      await server.stop(0);
      return true;
    } catch (error) {
      assert.ok(error instanceof ComponentError, `${/** @type {Error} */ (error).stack}`);
      return false;
    }
  };
  for (let length = 0; length < bytes.length; length += length < 700 ? 1 : 997) {
    assert.equal(await tries(bytes.subarray(0, length)), false, `${length} bytes`);
  }
  // The sections of the component are at its beginning and end; the core modules are the engine's.
  let seed = 1;
  const random = (/** @type {number} */ below) => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed % below;
  };
  for (let round = 0; round < 500; round += 1) {
    const damaged = Uint8Array.from(bytes);
    for (let count = random(3) + 1; count > 0; count -= 1) {
      const at = random(2) ? random(1200) : bytes.length - 1 - random(3000);
      damaged[at] = random(256);
    }
    await tries(damaged);
  }
});
