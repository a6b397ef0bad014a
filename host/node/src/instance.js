import net from 'node:net';
import { clearTimeout, setTimeout } from 'node:timers';

import { Clock } from './clock.js';
import { Connection } from './connection.js';
import { flatError } from './imports/types.js';
import { Lines } from './output.js';
import { isPeer } from './policy.js';
import { Resources } from './resources.js';
import { tlsSession } from './tls.js';

/** @typedef {import('node:net').Socket} Socket */
/** @typedef {import('./imports/types.js').Address} Address */
/** @typedef {import('./imports/types.js').ErrorCode} ErrorCode */
/** @typedef {import('./link.js').Lifted} Lifted */

/** The most sockets that an instance has beside those that were accepted for it. */
const MOST_SOCKETS = 4_096;

/**
 * One instance of a service, and its connections.
 *
 * The service calls functions of the host while it handles an event. None of them calls an event
 * (K12): Node emits its own ones in a later turn, and so does what is written here.
 */
export class Instance {
  #exports;
  #owner;
  /** @type {Map<number, Connection>} */
  #connections = new Map();
  #last = 0;
  #wrapped = false;
  #made = 0;
  #dead = false;
  /** The number of unsent bytes, at least (K11). */
  unsent = 0;
  resources = new Resources();
  clock = new Clock((timer) => this.#fired(timer));

  /**
   * @param {import('./component.js').Component} component
   * @param {import('./service.js').Service} owner
   */
  constructor(component, owner) {
    this.#owner = owner;
    this.settings = owner.settings;
    this.stdout = new Lines(owner.settings.stdout);
    this.stderr = new Lines(owner.settings.stderr);
    this.#exports = component.instantiate(this);
  }

  /** Serves a connection that the host has accepted. @param {Socket} socket */
  accept(socket) {
    const { remoteAddress: host, remotePort: port } = socket;
    const remote = host === undefined || port === undefined ? null : { host, port };
    const [number, connection] = this.#add(socket, remote);
    this.call('connection', number, connection);
    return connection;
  }

  /** @param {number} number */
  get(number) {
    return this.#connections.get(number >>> 0);
  }

  get connections() {
    return this.#connections.values();
  }

  get isIdle() {
    return this.#connections.size === 0;
  }

  /**
   * Begins to connect, and returns the number of the socket (K16).
   *
   * @param {Address} remote
   * @returns {number | ErrorCode}
   */
  connect(remote) {
    if (!isPeer(remote)) return { code: 'invalid-argument' };
    if (!this.settings.mayConnect(remote)) {
      this.#owner.denied(remote);
      return { code: 'access-denied' };
    }
    if (this.#made >= MOST_SOCKETS) {
      return {
        code: 'other',
        text: `the instance has ${MOST_SOCKETS} sockets of its own, the most that it may have`,
      };
    }
    const socket = net.connect({ ...remote, allowHalfOpen: true, noDelay: true });
    const [number, connection] = this.#add(socket, remote);
    const limit = setTimeout(
      () => connection.connecting && connection.abort('timeout'),
      this.settings.connectTimeout,
    );
    socket.once('connect', () => clearTimeout(limit));
    this.#made += 1;
    socket.once('close', () => {
      this.#made -= 1;
      clearTimeout(limit);
    });
    return number;
  }

  /** @param {number} source @param {number} sink */
  pipe(source, sink) {
    return this.get(source)?.pipe(this.get(sink)) ?? false;
  }

  /** Returns whether the instance may have as many bytes unsent as it has (K11). */
  hasRoom() {
    if (this.unsent <= this.settings.maxMemory) return true;
    // What was sent since a write is not counted yet.
    for (const connection of this.#connections.values()) connection.recount();
    return this.unsent <= this.settings.maxMemory;
  }

  /** @param {number} handle */
  dropResource(handle) {
    this.resources.drop(handle);
  }

  // --- Events -------------------------------------------------------------------------------

  /**
   * Calls `data`. The path of every byte: nothing is allocated here.
   *
   * @param {number} number
   * @param {Uint8Array} data
   * @param {Connection} connection
   */
  data(number, data, connection) {
    if (this.#dead) return;
    const { core, memory, postReturn } = this.#exports.data;
    try {
      core(number, /** @type {import('./memory.js').GuestMemory} */ (memory).put(data), data.length);
      postReturn?.();
    } catch (error) {
      this.#trapped(error, connection);
    }
  }

  /**
   * Calls an event that has no further arguments.
   *
   * @param {'connection' | 'end' | 'drain' | 'timeout'} event
   * @param {number} number
   * @param {Connection} connection
   */
  call(event, number, connection) {
    this.#run(this.#exports[event], connection, () => [number]);
  }

  /**
   * Calls the last events, and forgets the connection.
   *
   * @param {number} number
   * @param {ErrorCode | null} failure
   * @param {Connection} connection
   */
  closed(number, failure, connection) {
    const { error, close } = this.#exports;
    if (failure) this.#run(error, connection, () => [number, ...flatError(error.memory, failure)]);
    this.#run(close, connection, () => [number, failure ? 1 : 0]);
    // The number stands for the connection until the last event has returned (K10).
    if (!this.#connections.delete(number)) return;
    this.#owner.left(this, connection);
  }

  /** Resets what the instance has, and lets go of it. */
  discard() {
    this.#dead = true;
    this.clock.clearAll();
    this.stdout.end();
    this.stderr.end();
    const connections = [...this.#connections.values()];
    this.#connections.clear();
    for (const connection of connections) {
      connection.discard();
      this.#owner.left(this, connection);
    }
  }

  /** @param {number} timer */
  #fired(timer) {
    if (this.#exports.fired) this.#run(this.#exports.fired, null, () => [timer]);
  }

  /** @param {Lifted} event @param {Connection | null} connection @param {() => number[]} flat */
  #run({ core, postReturn }, connection, flat) {
    if (this.#dead) return;
    try {
      core(...flat());
      postReturn?.();
    } catch (error) {
      this.#trapped(error, connection);
    }
  }

  /** A trap ends the instance, and resets its connections (C4). @param {any} error @param {Connection | null} connection */
  #trapped(error, connection) {
    this.#owner.trapped(this, error, connection?.remote ?? null);
    this.discard();
  }

  /** @param {Socket} socket @param {Address | null} remote @returns {[number, Connection]} */
  #add(socket, remote) {
    const number = this.#next();
    const connection = new Connection(this, number, socket, remote, tlsSession(socket));
    this.#connections.set(number, connection);
    return [number, connection];
  }

  /** Returns the next number that no socket has (K10). */
  #next() {
    do {
      this.#wrapped ||= this.#last === 0xffff_ffff;
      this.#last = (this.#last % 0xffff_ffff) + 1;
    } while (this.#wrapped && this.#connections.has(this.#last));
    return this.#last;
  }
}
