// `wasi:io` 0.2: what a service prints, and waiting for times.
import { Trap } from '../memory.js';

/** @typedef {import('../link.js').HostFunction} HostFunction */
/** @typedef {import('../instance.js').Instance} Instance */
/** @typedef {import('../memory.js').GuestMemory} GuestMemory */

/** Standard input, which is empty. */
export class Input {}

/** Standard output or standard error. */
export class Output {
  /** @param {{ write: (data: Uint8Array) => void }} lines */
  constructor(lines) {
    this.lines = lines;
  }
}

/** Something that is ready from a time on. */
export class Pollable {
  /** @param {number} due a time of `performance.now()` */
  constructor(due) {
    this.due = due;
  }

  get ready() {
    return performance.now() >= this.due;
  }
}

const STREAM_ERROR = 'variant { last-operation-failed(own<error>), closed }';

/** The bytes that a stream takes at once. */
const AT_ONCE = 65_536;

/** Writes the error `closed`. @param {GuestMemory} memory @param {number} at @param {number} align of the result */
function putClosed(memory, at, align) {
  memory.view.setUint8(at, 1);
  memory.view.setUint8(at + align, 1);
}

/** @param {string} parameters @param {boolean} [zeroes] @returns {HostFunction} */
const writes = (parameters, zeroes = false) => ({
  type: `(self: borrow<output-stream>${parameters}) -> result<_, ${STREAM_ERROR}>`,
  make:
    (/** @type {Instance} */ instance, memory) =>
    (/** @type {any[]} */ ...flat) => {
      const { lines } = instance.resources.get(flat[0], Output);
      if (zeroes) lines.write(new Uint8Array(Math.min(Number(flat[1]), AT_ONCE)));
      else if (flat.length > 2) lines.write(memory.slice(flat[1], flat[2]));
      memory.view.setUint8(flat[flat.length - 1] >>> 0, 0);
    },
});

/** @param {string} name @param {string} parameters @param {string} payload @param {number} align @returns {HostFunction} */
const reads = (name, parameters, payload, align) => ({
  type: `(self: borrow<input-stream>${parameters}) -> result<${payload}, ${STREAM_ERROR}>`,
  make:
    (/** @type {Instance} */ instance, memory) =>
    (/** @type {number} */ self, /** @type {bigint} */ _, /** @type {number} */ at) => {
      instance.resources.get(self, Input);
      putClosed(memory, at >>> 0, align);
    },
});

/** @param {string} kind @param {any} stream @returns {HostFunction} */
const subscribes = (kind, stream) => ({
  type: `(self: borrow<${kind}>) -> own<pollable>`,
  make: (/** @type {Instance} */ instance) => (/** @type {number} */ self) => {
    instance.resources.get(self, stream);
    return instance.resources.add(new Pollable(0));
  },
});

/** @type {Record<string, HostFunction>} */
export const streams = {
  '[method]output-stream.check-write': {
    type: `(self: borrow<output-stream>) -> result<u64, ${STREAM_ERROR}>`,
    make:
      (/** @type {Instance} */ instance, memory) =>
      (/** @type {number} */ self, /** @type {number} */ at) => {
        instance.resources.get(self, Output);
        at >>>= 0;
        memory.view.setUint8(at, 0);
        memory.view.setBigUint64(at + 8, BigInt(AT_ONCE), true);
      },
  },
  '[method]output-stream.write': writes(', contents: list<u8>'),
  '[method]output-stream.blocking-write-and-flush': writes(', contents: list<u8>'),
  '[method]output-stream.flush': writes(''),
  '[method]output-stream.blocking-flush': writes(''),
  '[method]output-stream.write-zeroes': writes(', len: u64', true),
  '[method]output-stream.blocking-write-zeroes-and-flush': writes(', len: u64', true),
  '[method]output-stream.subscribe': subscribes('output-stream', Output),
  '[method]input-stream.read': reads('read', ', len: u64', 'list<u8>', 4),
  '[method]input-stream.blocking-read': reads('read', ', len: u64', 'list<u8>', 4),
  '[method]input-stream.skip': reads('skip', ', len: u64', 'u64', 8),
  '[method]input-stream.blocking-skip': reads('skip', ', len: u64', 'u64', 8),
  '[method]input-stream.subscribe': subscribes('input-stream', Input),
};

/** No error of this host has a handle. @type {Record<string, HostFunction>} */
export const error = {
  '[method]error.to-debug-string': {
    type: '(self: borrow<error>) -> string',
    make: () => () => {
      throw new Trap('there is no such error');
    },
  },
};

/** For `Atomics.wait`, which only waits. */
const never = new Int32Array(new SharedArrayBuffer(4));

/** Waits for a time, and holds everything up meanwhile. @param {number} due */
function wait(due) {
  while (performance.now() < due) Atomics.wait(never, 0, 0, Math.max(due - performance.now(), 0));
}

/** @type {Record<string, HostFunction>} */
export const poll = {
  '[method]pollable.ready': {
    type: '(self: borrow<pollable>) -> bool',
    make: (/** @type {Instance} */ instance) => (/** @type {number} */ self) =>
      Number(instance.resources.get(self, Pollable).ready),
  },
  '[method]pollable.block': {
    type: '(self: borrow<pollable>)',
    make: (/** @type {Instance} */ instance) => (/** @type {number} */ self) =>
      wait(instance.resources.get(self, Pollable).due),
  },
  poll: {
    type: '(in: list<borrow<pollable>>) -> list<u32>',
    make:
      (/** @type {Instance} */ instance, memory) =>
      (/** @type {number} */ list, /** @type {number} */ length, /** @type {number} */ at) => {
        if (length === 0) throw new Trap('it polls nothing');
        const handles = memory.slice(list, 4 * length);
        const view = new DataView(handles.buffer, handles.byteOffset, handles.length);
        const polled = Array.from({ length }, (_, index) =>
          instance.resources.get(view.getUint32(4 * index, true), Pollable),
        );
        wait(Math.min(...polled.map(({ due }) => due)));
        const ready = polled.flatMap((pollable, index) => (pollable.ready ? [index] : []));
        const place = memory.allocate(4 * ready.length, 4);
        ready.forEach((number, index) => memory.view.setUint32(place + 4 * index, number, true));
        memory.putList(at >>> 0, place, ready.length);
      },
  },
};
