// Addresses as text: where to listen, and where a service may connect.
import net from 'node:net';

import { groups } from './imports/types.js';

/** @typedef {import('./imports/types.js').Address} Address */

/** A mistake in what the caller has passed. The message is one line, and says what would be right. */
export class UsageError extends Error {
  name = 'UsageError';
}

/** Writes an address and port. @param {Address} address */
export const text = ({ host, port }) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);

/**
 * Reads where to listen: `127.0.0.1:1234`, `[::1]:1234`, or a port of 127.0.0.1.
 *
 * @param {string} given
 * @returns {Address}
 */
export function listenAddress(given) {
  const [, host, port] = /^(?:\[?([^\]]*)\]?:)?(\d{1,5})$/.exec(given) ?? [];
  const address = { host: host === 'localhost' || !host ? '127.0.0.1' : host, port: Number(port) };
  if (port === undefined || !net.isIP(address.host) || address.port > 65_535) {
    throw new UsageError(`not an address to listen on: ${given}; write 127.0.0.1:1234, [::1]:1234 or 1234`);
  }
  return address;
}

/** A network: the first `length` bits of `bytes`. */
export class Network {
  /** @param {number[]} bytes 4 or 16 @param {number} length */
  constructor(bytes, length) {
    this.bytes = bytes;
    this.length = length;
  }

  /** Reads an address or a network in CIDR notation; `null` if it is neither. @param {string} given */
  static parse(given) {
    const [, host, prefix] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(given) ?? [];
    if (!host || !net.isIP(host) || host.includes('%')) return null;
    const bytes = bytesOf(host);
    const length = prefix === undefined ? 8 * bytes.length : Number(prefix);
    return length <= 8 * bytes.length ? new Network(bytes, length) : null;
  }

  /** Whether all of another network, or an address, lies in this one. @param {Network} other */
  contains({ bytes, length }) {
    if (bytes.length !== this.bytes.length || length < this.length) return false;
    return this.bytes.every((byte, index) => {
      const bits = Math.min(Math.max(this.length - 8 * index, 0), 8);
      return (byte ^ bytes[index]) >> (8 - bits) === 0;
    });
  }

  get isSingle() {
    return this.length === 8 * this.bytes.length;
  }
}

/** @param {string} host */
function bytesOf(host) {
  if (!host.includes(':')) return host.split('.').map(Number);
  return groups(host).flatMap((group) => [group >> 8, group & 0xff]);
}
