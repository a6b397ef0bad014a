// What the tests share: the guests, servers that end with their test, and clients.
import { once } from 'node:events';
import net from 'node:net';

import { serve } from '../src/index.js';

/** @param {string} name of a component that is shipped, or of one for the tests */
export const guest = (name) => {
  const folder = ['echo', 'chat', 'lines', 'digest', 'primitives', 'adapter'].includes(name)
    ? '../../../guest/dist/'
    : '../../../tests/guests/dist/';
  return new URL(`${folder}${name}.wasm`, import.meta.url);
};

/**
 * Serves a guest until the test has ended, and collects what it prints and what the host logs.
 *
 * @param {import('node:test').TestContext} test
 * @param {string} name
 * @param {import('../index.js').ServeOptions} [options]
 */
export async function serving(test, name, options = {}) {
  /** @type {string[]} */
  const printed = [];
  /** @type {import('../index.js').LogEntry[]} */
  const logged = [];
  const server = await serve(guest(name), {
    port: 0,
    stdout: (line) => printed.push(Buffer.from(line).toString()),
    log: (entry) => logged.push(entry),
    ...options,
  });
  test.after(() => server.stop(0));
  const { port } = /** @type {net.AddressInfo} */ (server.address());
  return {
    server,
    port,
    printed,
    logged,
    connect: (/** @type {object} */ more = {}) => Client.connect(port, more),
  };
}

/** A client that waits for what it expects. */
export class Client {
  /** @param {net.Socket} socket */
  constructor(socket) {
    this.socket = socket;
    this.received = Buffer.alloc(0);
    /** How the connection has ended: `fin`, or the code of an error. @type {string | null} */
    this.end = null;
    this.changed = () => {};
    socket.on('data', (data) => {
      this.received = Buffer.concat([this.received, data]);
      this.changed();
    });
    socket.on('end', () => this.#ended('fin'));
    socket.on('error', (error) => this.#ended(/** @type {NodeJS.ErrnoException} */ (error).code ?? ''));
  }

  /** @param {number} port @param {object} [more] */
  static async connect(port, more = {}) {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true, ...more });
    const client = new Client(socket);
    await once(socket, 'connect');
    return client;
  }

  /** @param {string} end */
  #ended(end) {
    this.end ??= end;
    this.changed();
  }

  /** @param {string | Uint8Array} data */
  send(data) {
    this.socket.write(data);
  }

  /** Waits until so many bytes have come, and takes them. @param {number} count */
  async receive(count) {
    await this.#until(() => this.received.length >= count || this.end !== null);
    const taken = this.received.subarray(0, count);
    this.received = this.received.subarray(count);
    return taken.toString('latin1');
  }

  /** Waits for the end, and returns it. */
  async ended() {
    await this.#until(() => this.end !== null);
    return this.end;
  }

  /** @param {() => boolean} holds */
  async #until(holds) {
    while (!holds())
      await new Promise((/** @type {(value?: any) => void} */ resolve) => (this.changed = resolve));
  }
}

/** Waits until something holds. @param {() => boolean} holds */
export async function until(holds) {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
