// The interfaces of `halfopen:tcp` that a service in callback style imports.
import { ADDRESS, ERROR_CODE, flatAddress, putAddress, putError } from './types.js';

/** @typedef {import('../link.js').HostFunction} HostFunction */
/** @typedef {import('../instance.js').Instance} Instance */
/** @typedef {import('../memory.js').GuestMemory} GuestMemory */

/** What `sockets.write` returns, in the order of the WIT. */
export const MORE = 0;
export const WAIT = 1;
export const ENDED = 2;

const ADDRESSES = `(socket: u32) -> result<${ADDRESS}, ${ERROR_CODE}>`;

/**
 * A function of a socket without a result.
 *
 * @param {(connection: import('../connection.js').Connection) => void} act
 * @param {string} [type]
 * @returns {HostFunction}
 */
const acts = (act, type = '(socket: u32)') => ({
  type,
  make: (/** @type {Instance} */ instance) => (/** @type {number} */ socket) => {
    const connection = instance.get(socket);
    if (connection) act(connection);
  },
});

/** @type {Record<string, HostFunction>} */
export const sockets = {
  write: {
    type: '(socket: u32, data: list<u8>) -> enum { more, wait, ended }',
    make:
      (/** @type {Instance} */ instance, memory) =>
      (/** @type {number} */ socket, /** @type {number} */ at, /** @type {number} */ length) => {
        const connection = instance.get(socket);
        return connection ? connection.write(memory.copy(at, length)) : ENDED;
      },
  },
  end: acts((connection) => connection.end()),
  destroy: acts((connection) => connection.destroy()),
  reset: acts((connection) => connection.reset()),
  pause: acts((connection) => connection.pause(true)),
  resume: acts((connection) => connection.pause(false)),
  unsent: {
    type: '(socket: u32) -> u64',
    make: (/** @type {Instance} */ instance) => (/** @type {number} */ socket) =>
      BigInt(instance.get(socket)?.unsent ?? 0),
  },
  'allow-half-open': {
    type: '(socket: u32, allow: bool)',
    make: (/** @type {Instance} */ instance) => (/** @type {number} */ socket, /** @type {number} */ allow) =>
      instance.get(socket)?.allowHalfOpen(allow !== 0),
  },
  'set-timeout': {
    type: '(socket: u32, milliseconds: u32)',
    make:
      (/** @type {Instance} */ instance) =>
      (/** @type {number} */ socket, /** @type {number} */ milliseconds) =>
        instance.get(socket)?.setTimeout(milliseconds >>> 0),
  },
  'local-address': {
    type: ADDRESSES,
    make:
      (/** @type {Instance} */ instance, memory) =>
      (/** @type {number} */ socket, /** @type {number} */ at) =>
        putAddress(memory, at >>> 0, instance.get(socket)?.local),
  },
  'remote-address': {
    type: ADDRESSES,
    make:
      (/** @type {Instance} */ instance, memory) =>
      (/** @type {number} */ socket, /** @type {number} */ at) =>
        putAddress(memory, at >>> 0, instance.get(socket)?.remote),
  },
};

/** @type {Record<string, HostFunction>} */
export const connecting = {
  connect: {
    type: `(remote-address: ${ADDRESS}) -> result<u32, ${ERROR_CODE}>`,
    // The case of the address, its 11 fields, and where the result goes.
    make:
      (/** @type {Instance} */ instance, memory) =>
      (/** @type {number[]} */ ...flat) => {
        const at = flat[12] >>> 0;
        const made = instance.connect(flatAddress(flat[0], flat.slice(1, 12)));
        if (typeof made !== 'number') return putError(memory, at, made);
        memory.view.setUint8(at, 0);
        memory.view.setUint32(at + 4, made, true);
      },
  },
};

/** @type {Record<string, HostFunction>} */
export const piping = {
  pipe: {
    type: `(source: u32, sink: u32) -> result<_, ${ERROR_CODE}>`,
    make:
      (/** @type {Instance} */ instance, memory) =>
      (/** @type {number} */ source, /** @type {number} */ sink, /** @type {number} */ at) => {
        if (instance.pipe(source, sink)) memory.view.setUint8(at >>> 0, 0);
        else putError(memory, at >>> 0, { code: 'invalid-state' });
      },
  },
};

/** @type {Record<string, HostFunction>} */
export const timers = {
  'set-timer': {
    type: '(milliseconds: u32) -> u32',
    make: (/** @type {Instance} */ instance) => (/** @type {number} */ milliseconds) =>
      instance.clock.set(milliseconds >>> 0, 0),
  },
  'set-interval': {
    type: '(milliseconds: u32) -> u32',
    make: (/** @type {Instance} */ instance) => (/** @type {number} */ milliseconds) => {
      const interval = Math.max(milliseconds >>> 0, 1);
      return instance.clock.set(interval, interval);
    },
  },
  clear: {
    type: '(timer: u32)',
    make: (/** @type {Instance} */ instance) => (/** @type {number} */ timer) =>
      instance.clock.clear(timer >>> 0),
  },
};

const TLS_SESSION =
  'record { end: enum { host, balancer }, version: option<string>, server-name: option<string>, ' +
  'application-protocol: option<list<u8>>, common-name: option<string>, certificates: list<list<u8>> }';

/** @type {Record<string, HostFunction>} */
export const socketPeer = {
  tls: {
    type: `(socket: u32) -> option<${TLS_SESSION}>`,
    make:
      (/** @type {Instance} */ instance, memory) =>
      (/** @type {number} */ socket, /** @type {number} */ at) => {
        at >>>= 0;
        const session = instance.get(socket)?.tls;
        memory.view.setUint8(at, session ? 1 : 0);
        if (session) putSession(memory, at + 4, session);
      },
  },
};

/**
 * Writes a `tls-session`.
 *
 * @param {GuestMemory} memory
 * @param {number} at
 * @param {import('../connection.js').TlsSession} session
 */
function putSession(memory, at, session) {
  memory.view.setUint8(at, 0);
  const texts = [session.version, session.serverName, session.applicationProtocol, session.commonName];
  texts.forEach((text, index) => {
    const place = at + 4 + 12 * index;
    if (text) memory.putText(place + 4, text);
    memory.view.setUint8(place, text ? 1 : 0);
  });
  const { certificates } = session;
  const list = memory.allocate(8 * certificates.length, 4);
  certificates.forEach((certificate, index) => {
    memory.putList(list + 8 * index, memory.put(certificate), certificate.length);
  });
  memory.putList(at + 52, list, certificates.length);
}
