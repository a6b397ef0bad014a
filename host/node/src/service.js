import { clearInterval, clearTimeout, setInterval, setTimeout } from 'node:timers';

import { text } from './address.js';
import { ComponentError } from './binary/reader.js';
import { resetNow } from './closing.js';
import { Instance } from './instance.js';

/** @typedef {import('node:net').Socket} Socket */
/** @typedef {import('./imports/types.js').Address} Address */
/** @typedef {import('./connection.js').Connection} Connection */

/** How long an instance goes on after the connection that it was made for has ended (C8). */
const BACKGROUND = 30_000;

/** The longest time between two looks at all connections. */
const LONGEST_LOOK = 1_000;

/** The most connections that wait for a place: as many as Node's backlog has. */
const MOST_WAITING = 511;

/** Gives connections to instances of a component, and keeps the limits. */
export class Service {
  #component;
  #shares;
  /** @type {Set<Instance>} */
  #instances = new Set();
  /** The instance that all connections share, or one that has none yet. @type {Instance | null} */
  #ready = null;
  /** The connections that were accepted, and the instances that only one of them has. @type {Map<Connection, Instance>} */
  #accepted = new Map();
  /** How long the instances go on whose connection has ended. @type {Map<Instance, NodeJS.Timeout>} */
  #background = new Map();
  /** Connections that wait until there are fewer. They are read as far as Node reads ahead. @type {Set<Socket>} */
  #waiting = new Set();
  #looks;
  /** What waits until no connection is left. @type {(() => void)[]} */
  #ending = [];

  /**
   * Throws if the service does not start: it is better to know that before the first connection.
   *
   * @param {import('./component.js').Component} component
   * @param {import('./settings.js').Settings} settings
   */
  constructor(component, settings) {
    this.#component = component;
    this.settings = settings;
    const isolation = settings.isolation ?? component.isolation ?? 'connection';
    this.#shares = isolation === 'shared';
    if (component.isolation && component.isolation !== isolation) {
      settings.log.warn(
        'isolation',
        `the service declares the isolation \`${component.isolation}\`, and gets \`${isolation}\``,
      );
    }
    try {
      this.#ready = this.#instance();
    } catch (error) {
      const { message } = /** @type {Error} */ (error);
      throw error instanceof ComponentError
        ? error
        : new ComponentError(`the service does not start: ${message}`);
    }
    const limit = settings.idleTimeout;
    const period = Math.min(Math.ceil(limit / 4) || LONGEST_LOOK, LONGEST_LOOK);
    this.#looks = setInterval(() => this.#look(limit), period);
    this.#looks.unref();
  }

  /** Serves a connection, now or once there is a place. @param {Socket} socket */
  accept(socket) {
    if (this.#accepted.size < this.settings.maxConnections) return this.#serve(socket);
    if (this.#waiting.size >= MOST_WAITING) {
      const message = `${this.#waiting.size} connections wait for a place, as many as may`;
      this.settings.log.warn('refused', message, text(peerOf(socket)));
      return this.#refuse(socket);
    }
    this.#waiting.add(socket);
    socket.on('error', ignored);
    socket.once('close', () => this.#waiting.delete(socket));
  }

  /** Waits until all connections have ended, or for so many milliseconds; then resets the rest, and returns how many. @param {number} grace */
  async stop(grace) {
    for (const socket of this.#waiting) resetNow(socket);
    if (this.#accepted.size > 0) {
      await new Promise((/** @type {(value?: any) => void} */ resolve) => {
        const timer = setTimeout(resolve, grace);
        this.#ending.push(() => (clearTimeout(timer), resolve()));
      });
    }
    const rest = this.#accepted.size;
    for (const instance of [...this.#instances]) this.#discard(instance);
    clearInterval(this.#looks);
    return rest;
  }

  // --- What instances report ----------------------------------------------------------------

  /** @param {Instance} instance @param {any} error @param {Address | null} peer */
  trapped(instance, error, peer) {
    this.settings.log.warn(
      'trap',
      `the service trapped: ${error?.message ?? error}`,
      peer ? text(peer) : undefined,
    );
    this.#forget(instance);
  }

  /** @param {Address} remote */
  denied(remote) {
    this.settings.log.warn(
      'denied',
      `the service may not connect to ${text(remote)}: allow it with \`allowConnect\` or --allow-connect`,
    );
  }

  /** A connection of an instance has ended. @param {Instance} instance @param {Connection} connection */
  left(instance, connection) {
    const accepted = this.#accepted.delete(connection);
    if (accepted) process.nextTick(() => this.#next());
    if (this.#shares || !this.#instances.has(instance)) return;
    if (instance.isIdle) return this.#discard(instance);
    if (!accepted) return;
    const timer = setTimeout(() => {
      this.settings.log.warn('background', 'an instance has outlasted its connection for 30 s, and is ended');
      this.#discard(instance);
    }, BACKGROUND);
    this.#background.set(instance, timer);
  }

  // ------------------------------------------------------------------------------------------

  /** A place has become free. */
  #next() {
    for (const socket of this.#waiting) {
      if (this.#accepted.size >= this.settings.maxConnections) return;
      this.#waiting.delete(socket);
      this.#serve(socket);
    }
    if (this.#accepted.size === 0) for (const ended of this.#ending.splice(0)) ended();
  }

  /** @param {Socket} socket */
  #serve(socket) {
    const instance = this.#ready ?? this.#started(peerOf(socket));
    if (!instance) return this.#refuse(socket);
    this.#ready = this.#shares ? instance : null;
    const connection = instance.accept(socket);
    // A trap in the first event has ended it already.
    if (this.#instances.has(instance)) this.#accepted.set(connection, instance);
  }

  #instance() {
    const instance = new Instance(this.#component, this);
    this.#instances.add(instance);
    return instance;
  }

  /** Returns a new instance, if it starts. @param {Address} peer */
  #started(peer) {
    try {
      return this.#instance();
    } catch (error) {
      this.settings.log.warn(
        'start',
        `the service does not start: ${/** @type {Error} */ (error).message}`,
        text(peer),
      );
      return null;
    }
  }

  /** @param {Socket} socket */
  #refuse(socket) {
    socket.on('error', ignored);
    resetNow(socket);
  }

  /** @param {Instance} instance */
  #discard(instance) {
    this.#forget(instance);
    instance.discard();
  }

  /** @param {Instance} instance */
  #forget(instance) {
    clearTimeout(this.#background.get(instance));
    this.#background.delete(instance);
    this.#instances.delete(instance);
    if (this.#ready === instance) this.#ready = null;
  }

  /** Looks at all connections: for resets that nobody sees, and for a limit on idle time; 0 is none. @param {number} limit */
  #look(limit) {
    const now = performance.now();
    for (const instance of this.#instances) {
      for (const connection of instance.connections) {
        connection.probe();
        if (limit > 0 && now - connection.idleSince(now) >= limit) connection.abort('timeout');
      }
    }
  }
}

function ignored() {}

/** @param {Socket} socket @returns {Address} */
const peerOf = (socket) => ({ host: socket.remoteAddress ?? '?', port: socket.remotePort ?? 0 });
