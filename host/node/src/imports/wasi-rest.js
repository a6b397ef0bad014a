// The other interfaces of WASI 0.2 that compilers link in, used or not: clocks and chance, and a
// file system and a network that hold nothing.
import { randomBytes } from 'node:crypto';

import { Trap } from '../memory.js';
import { Pollable } from './wasi-io.js';

/** @typedef {import('../link.js').HostFunction} HostFunction */
/** @typedef {import('../instance.js').Instance} Instance */
/** @typedef {import('../memory.js').GuestMemory} GuestMemory */

const now = () => process.hrtime.bigint();

/** The time of `performance.now()` that is so many nanoseconds away. @param {bigint} nanoseconds */
const after = (nanoseconds) => performance.now() + Number(nanoseconds) / 1e6;

/** @type {Record<string, HostFunction>} */
export const monotonicClock = {
  now: { type: '() -> u64', make: () => now },
  resolution: { type: '() -> u64', make: () => () => 1n },
  'subscribe-instant': {
    type: '(when: u64) -> own<pollable>',
    make: (/** @type {Instance} */ instance) => (/** @type {bigint} */ when) =>
      instance.resources.add(new Pollable(after(BigInt.asUintN(64, when) - now()))),
  },
  'subscribe-duration': {
    type: '(when: u64) -> own<pollable>',
    make: (/** @type {Instance} */ instance) => (/** @type {bigint} */ when) =>
      instance.resources.add(new Pollable(after(BigInt.asUintN(64, when)))),
  },
};

/** @param {(at: number, view: DataView) => void} put @returns {HostFunction} */
const datetime = (put) => ({
  type: '() -> record { seconds: u64, nanoseconds: u32 }',
  make: (_, memory) => (/** @type {number} */ at) => put(at >>> 0, memory.view),
});

/** @type {Record<string, HostFunction>} */
export const wallClock = {
  now: datetime((at, view) => {
    const milliseconds = Date.now();
    view.setBigUint64(at, BigInt(Math.floor(milliseconds / 1000)), true);
    view.setUint32(at + 8, (milliseconds % 1000) * 1_000_000, true);
  }),
  resolution: datetime((at, view) => {
    view.setBigUint64(at, 0n, true);
    view.setUint32(at + 8, 1_000_000, true);
  }),
};

/** The most random bytes at once. */
const MOST_RANDOM = 1 << 20;

/** @type {HostFunction} */
const bytes = {
  type: '(len: u64) -> list<u8>',
  make: (_, memory) => (/** @type {bigint} */ length, /** @type {number} */ at) => {
    const count = BigInt.asUintN(64, length);
    if (count > MOST_RANDOM) throw new Trap('it asks for more than 1 MiB of random bytes');
    memory.putList(at >>> 0, memory.put(randomBytes(Number(count))), Number(count));
  },
};

/** @type {HostFunction} */
const u64 = { type: '() -> u64', make: () => () => randomBytes(8).readBigUInt64LE() };

/** @type {Record<string, HostFunction>} */
export const random = { 'get-random-bytes': bytes, 'get-random-u64': u64 };

/** @type {Record<string, HostFunction>} */
export const insecure = { 'get-insecure-random-bytes': bytes, 'get-insecure-random-u64': u64 };

/** @type {Record<string, HostFunction>} */
export const insecureSeed = {
  'insecure-seed': {
    type: '() -> tuple<u64, u64>',
    make: (_, memory) => (/** @type {number} */ at) => memory.bytes.set(randomBytes(16), at >>> 0),
  },
};

/** No directory is open. @type {Record<string, HostFunction>} */
export const preopens = {
  'get-directories': {
    type: '() -> list<tuple<own<descriptor>, string>>',
    make: (_, memory) => (/** @type {number} */ at) => memory.putList(at >>> 0, 0, 0),
  },
};

/**
 * A function of a resource of which there is none: to call it takes a handle that nobody has.
 *
 * @type {HostFunction}
 */
export const unreachable = {
  type: null,
  make: () => () => {
    throw new Trap('there is no such handle');
  },
};

/** The network itself, which denies everything: `halfopen:tcp/connecting` connects. */
class Network {}

/** The `error-code` of `wasi:sockets/network` 0.2 for what is denied. */
const ACCESS_DENIED = 1;

/** A function whose result, at its last argument, is that it is denied. @type {HostFunction} */
const denied = {
  type: null,
  make:
    (_, memory) =>
    (/** @type {any[]} */ ...flat) => {
      const at = flat[flat.length - 1] >>> 0;
      memory.view.setUint8(at, 1);
      memory.view.setUint8(at + 4, ACCESS_DENIED);
    },
};

/** @type {Record<string, HostFunction>} */
export const instanceNetwork = {
  'instance-network': {
    type: '() -> own<network>',
    make: (/** @type {Instance} */ instance) => () => instance.resources.add(new Network()),
  },
};

/** @type {Record<string, HostFunction>} */
export const createTcpSocket = { 'create-tcp-socket': denied };

/** @type {Record<string, HostFunction>} */
export const createUdpSocket = { 'create-udp-socket': denied };

/** @type {Record<string, HostFunction>} */
export const lookup = { 'resolve-addresses': denied };

/** No error of a stream comes from a file. @type {Record<string, HostFunction>} */
export const files = {
  'filesystem-error-code': {
    type: null,
    make: (_, memory) => (/** @type {number} */ _error, /** @type {number} */ at) =>
      memory.view.setUint8(at >>> 0, 0),
  },
};
