// Implements `halfopen:tcp/sockets` and the interfaces beside it on `node:net`, for components
// in callback style that jco has translated. Needs no feature of WebAssembly beyond Node 20's.
// Rules such as K6 are in wit/SEMANTICS.md.
import net from 'node:net';

import { address, closeGently, errorCode, hostAndPort } from '../network.mjs';
import { Timers } from './timers.mjs';

/** The number of unsent bytes above which nothing more is read (K6). */
const HIGH_WATER = 64 << 10;

/** The most bytes that an instance may have unsent (K11). */
const MOST_UNSENT = 256 << 20;

/**
 * One instance of a service, and its connections.
 *
 * The service calls the functions of `imports` while it handles an event. None of them calls
 * an event: Node emits its own ones in a later turn, and so does what is written here.
 */
export class Instance {
  #connections = new Map();
  #exports;
  #last = 0;
  #mayConnect;
  #timers = new Timers((timer) => this.call('fired', timer, undefined, TIMER_EVENTS));
  #trapped;
  #dead = false;

  /**
   * `start` makes the instance of its imports. `trapped` is called with the error of a trap,
   * after which the instance has no connections. `mayConnect` says whether the service may
   * connect to a host and port.
   */
  constructor(start, { trapped, mayConnect }) {
    this.#trapped = trapped;
    this.#mayConnect = mayConnect;
    this.#exports = start(this.#imports());
  }

  /** Serves a connection that the host has accepted. */
  accept(socket) {
    const number = this.#add(socket, [socket.remoteAddress, socket.remotePort]);
    this.call('connection', number);
  }

  /** Calls an event. A trap ends the instance, and resets its connections (C4). */
  call(event, first, second, events = EVENTS) {
    if (this.#dead) return;
    try {
      this.#exports[events][event](first, second);
    } catch (error) {
      this.#dead = true;
      this.#timers.clearAll();
      for (const connection of this.#connections.values()) connection.reset();
      this.#connections.clear();
      this.#trapped(error);
    }
  }

  /** Forgets a connection, whose number is never used again (K10). */
  remove(number) {
    this.#connections.delete(number);
  }

  /** Returns whether the instance may have as many bytes unsent as it has (K11). */
  hasRoom() {
    let unsent = 0;
    for (const { socket } of this.#connections.values()) unsent += socket.writableLength;
    return unsent <= MOST_UNSENT;
  }

  #add(socket, remote) {
    const number = ++this.#last;
    this.#connections.set(number, new Connection(this, number, socket, remote));
    return number;
  }

  #connect(remote) {
    const [host, port] = hostAndPort(remote);
    if (port === 0 || NEVER_PEERS[remote.tag].check(host, remote.tag)) throw { tag: 'invalid-argument' };
    if (!this.#mayConnect(host, port)) throw { tag: 'access-denied' };
    return this.#add(net.connect({ host, port, allowHalfOpen: true, noDelay: true }), [host, port]);
  }

  #pipe(source, sink) {
    if (!source?.pipe(sink)) throw { tag: 'invalid-state' };
  }

  #imports() {
    const get = (number) => this.#connections.get(number);
    return {
      'halfopen:tcp/sockets': {
        write: (number, data) => get(number)?.write(data) ?? 'ended',
        end: (number) => get(number)?.end(),
        destroy: (number) => get(number)?.destroy(),
        reset: (number) => get(number)?.reset(),
        pause: (number) => get(number)?.pause(true),
        resume: (number) => get(number)?.pause(false),
        unsent: (number) => BigInt(get(number)?.unsent ?? 0),
        allowHalfOpen: (number, allow) => get(number)?.allowHalfOpen(allow),
        setTimeout: (number, milliseconds) => get(number)?.setTimeout(milliseconds),
        localAddress: (number) => address(...(get(number)?.local ?? [])),
        remoteAddress: (number) => address(...(get(number)?.remote ?? [])),
      },
      'halfopen:tcp/connecting': { connect: (remote) => this.#connect(remote) },
      'halfopen:tcp/piping': { pipe: (source, sink) => this.#pipe(get(source), get(sink)) },
      'halfopen:tcp/timers': this.#timers.imports,
      // No peer has a TLS session here (P1).
      'halfopen:tcp/socket-peer': { tls: () => undefined },
    };
  }
}

const EVENTS = 'halfopen:tcp/events@0.1.0';
const TIMER_EVENTS = 'halfopen:tcp/timer-events@0.1.0';

/** Addresses that are never a peer's: unspecified, multicast, IPv4-mapped. */
const NEVER_PEERS = { ipv4: new net.BlockList(), ipv6: new net.BlockList() };
NEVER_PEERS.ipv4.addAddress('0.0.0.0');
NEVER_PEERS.ipv4.addSubnet('224.0.0.0', 4);
NEVER_PEERS.ipv6.addAddress('::', 'ipv6');
NEVER_PEERS.ipv6.addSubnet('ff00::', 8, 'ipv6');
NEVER_PEERS.ipv6.addSubnet('::ffff:0:0', 96, 'ipv6');

/** One connection of an instance. */
class Connection {
  #instance;
  #number;
  /** The peer's host and port, which outlast a reset. */
  remote;
  socket;
  #halfOpen = false;
  #paused = false;
  #awaitsDrain = false;
  /** Whether the service has ended the sending direction. */
  #ended = false;
  /** Whether the service has destroyed or reset the connection: only `close` follows. */
  #destroyed = false;
  /** The connection's first error (E1). */
  #failure = null;
  /** Data that Node had received before the connection failed (R3). */
  #rest = null;
  /** The connection that gets the data of this one, while a pipe lasts. */
  #sink = null;
  /** The connection whose data this one gets, while a pipe lasts. */
  #source = null;
  /** Whether a pipe from this connection was ever made: it has no more `data` events. */
  #piped = false;
  /** Whether the last events were called. */
  #reported = false;

  constructor(instance, number, socket, remote) {
    this.#instance = instance;
    this.#number = number;
    this.socket = socket;
    this.remote = remote;
    socket.on('data', (data) => this.#received(data));
    socket.on('end', () => this.#receivedEnd());
    socket.on('drain', () => this.#drained());
    socket.on('finish', () => this.#drained());
    socket.on('error', (error) => this.#failed(errorCode(error)));
    socket.on('close', () => this.#closed());
    socket.on('connect', () => this.#call('connection'));
    socket.on('timeout', () => this.#call('timeout'));
  }

  // --- What the service calls ---------------------------------------------------------------

  write(data) {
    const { socket } = this;
    if (!this.#sends || this.#source) return 'ended';
    socket.write(data);
    if (socket.destroyed) return 'ended';
    if (socket.writableLength <= HIGH_WATER) return 'more';
    if (!this.#instance.hasRoom()) {
      this.#abort('out-of-memory');
      return 'ended';
    }
    this.#awaitsDrain = true;
    this.#flow();
    return 'wait';
  }

  end() {
    if (!this.#sends || this.#source) return;
    this.#ended = true;
    this.#awaitsDrain = false;
    this.socket.end();
  }

  /** Closes gently if everything is sent, and resets otherwise (K5). */
  destroy() {
    if (this.#destroyed) return;
    if (this.socket.writableLength > 0 || this.socket.connecting) return void this.reset();
    this.#leave();
    closeGently(this.socket);
  }

  reset() {
    if (this.#destroyed) return;
    this.#leave();
    resetNow(this.socket);
  }

  pause(paused) {
    this.#paused = paused;
    this.#flow();
    if (!paused && this.#rest) process.nextTick(() => this.#closed());
  }

  get unsent() {
    return this.#over ? 0 : this.socket.writableLength;
  }

  allowHalfOpen(allow) {
    this.#halfOpen = allow;
  }

  setTimeout(milliseconds) {
    // After 24 days, the most that Node counts, it is early.
    if (!this.#over) this.socket.setTimeout(Math.min(milliseconds, 0x7fff_ffff));
  }

  get local() {
    return [this.socket.localAddress, this.socket.localPort];
  }

  /** Returns whether the data of this connection now goes to `sink`. */
  pipe(sink) {
    const receives = !this.#over && !this.#piped && !this.socket.readableEnded;
    if (!receives || !sink?.#sends || sink.#source) return false;
    this.#piped = true;
    this.#sink = sink;
    sink.#source = this;
    this.#flow();
    return true;
  }

  // --- What Node reports --------------------------------------------------------------------

  #received(data) {
    if (!this.#piped) return this.#call('data', data);
    // After the sink's end, nobody receives the rest.
    this.#sink?.socket.write(data);
    this.#flow();
  }

  /** The peer's FIN. */
  #receivedEnd() {
    const sink = this.#unpipe();
    sink?.end();
    this.#call('end');
    // A pipe that has passed FIN on leaves the other direction to the service (K2, K15).
    if (!this.#halfOpen && !sink) this.end();
  }

  #drained() {
    const due = this.#awaitsDrain;
    this.#awaitsDrain = false;
    if (due) this.#call('drain');
    this.#flow();
    this.#source?.#flow();
  }

  #failed(failure) {
    if (this.#over) return;
    this.#failure = failure;
    this.#rest = this.socket.read();
    this.#unpipe()?.#abort('connection-aborted');
    this.#source?.#unpipe();
  }

  /** Calls the last events. While paused, data and what follows data have to wait (K7). */
  #closed() {
    if (this.#reported) return;
    if (this.#rest && !this.#piped && !this.#destroyed) {
      if (this.#paused) return;
      const data = this.#rest;
      this.#rest = null;
      this.#call('data', data);
    }
    this.#reported = true;
    this.#unpipe();
    this.#source?.#unpipe();
    const hadError = this.#failure !== null && !this.#destroyed;
    if (hadError) this.#call('error', this.#failure);
    // The number stands for the connection until the last event has returned.
    this.#instance.call('close', this.#number, hadError);
    this.#instance.remove(this.#number);
  }

  // ------------------------------------------------------------------------------------------

  #call(event, detail) {
    if (!this.#destroyed) this.#instance.call(event, this.#number, detail);
  }

  /** Whether the connection has failed or was destroyed. */
  get #over() {
    return this.#destroyed || this.#failure !== null;
  }

  /** Whether the sending direction is open. */
  get #sends() {
    return !this.#over && !this.#ended && !this.socket.destroyed;
  }

  /** Reads, or does not: the service has paused, or more than 64 KiB are unsent (K6). */
  #flow() {
    if (this.#over) return;
    const to = this.#piped ? this.#sink : this;
    const full = to !== null && to.socket.writableLength > HIGH_WATER;
    if (this.#paused || full) this.socket.pause();
    else this.socket.resume();
  }

  /** Ends the pipe from this connection, and returns its sink. */
  #unpipe() {
    const sink = this.#sink;
    this.#sink = null;
    if (sink) sink.#source = null;
    return sink;
  }

  /** The service gives the connection up: of its events, only `close` follows. */
  #leave() {
    this.#destroyed = true;
    this.#unpipe()?.#abort('connection-aborted');
    const source = this.#source;
    source?.#unpipe();
    source?.#flow();
    process.nextTick(() => this.#closed());
  }

  /** The host gives the connection up: `error` and `close` follow. */
  #abort(tag) {
    if (this.#over) return;
    this.#failed({ tag });
    resetNow(this.socket);
  }
}

/** Sends RST, if the connection exists. */
function resetNow(socket) {
  if (socket.connecting || socket.destroyed) socket.destroy();
  else socket.resetAndDestroy();
}
