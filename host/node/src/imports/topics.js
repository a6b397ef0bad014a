// Topics, which this host does not have: every call is denied (rule T1).

/** @typedef {import('../link.js').HostFunction} HostFunction */

const ERROR = 'enum { access-denied, invalid-topic, too-large, too-many, unavailable }';

/** The number of `access-denied`, behind the case of the result. */
const DENIED = 0;

/** @param {import('../memory.js').GuestMemory} memory @param {number} at */
function deny(memory, at) {
  memory.view.setUint8(at >>> 0, 1);
  memory.view.setUint8((at >>> 0) + 1, DENIED);
}

/** @type {Record<string, HostFunction>} */
export const topics = {
  publish: {
    type: `(topic: string, payload: list<u8>) -> result<_, ${ERROR}>`,
    // Addresses and lengths of both, and where the result goes.
    make:
      (_, memory) =>
      (/** @type {number[]} */ ...flat) =>
        deny(memory, flat[4]),
  },
};

/** @type {Record<string, HostFunction>} */
export const subscribing = {
  subscribe: {
    type: `(topic: string) -> result<_, ${ERROR}>`,
    make:
      (_, memory) =>
      (/** @type {number[]} */ ...flat) =>
        deny(memory, flat[2]),
  },
  unsubscribe: {
    type: '(topic: string)',
    make: () => () => {},
  },
};
