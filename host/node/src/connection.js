// One connection of an instance, on a socket of Node. Rules such as K6 are in wit/SEMANTICS.md.
import { closeGently, resetNow } from './closing.js';
import { ENDED, MORE, WAIT } from './imports/tcp.js';
import { errorCode } from './imports/types.js';

/** @typedef {import('node:net').Socket} Socket */
/** @typedef {import('./imports/types.js').Address} Address */
/** @typedef {import('./imports/types.js').ErrorCode} ErrorCode */
/** @typedef {import('./tls.js').TlsSession} TlsSession */

/** The number of unsent bytes above which nothing more is read (K6). */
const HIGH_WATER = 64 << 10;

/** The most milliseconds that Node counts. */
const LONGEST = 0x7fff_ffff;

const NOTHING = Buffer.alloc(0);

/** The connection that a socket belongs to. */
const CONNECTION = Symbol('connection');

export class Connection {
  #instance;
  #number;
  #socket;
  /** The peer's address, which outlasts a reset. @type {Address | null} */
  remote;
  /** The peer's TLS session. @type {TlsSession | null} */
  tls;
  #halfOpen = false;
  #paused = false;
  #awaitsDrain = false;
  #receivedEnd = false;
  /** Whether the event `end` is to come once less is unsent. */
  #endWaits = false;
  /** Whether the service has ended the sending direction. */
  #ended = false;
  /** Whether the service has destroyed or reset the connection: only `close` follows. */
  #destroyed = false;
  /** The connection's first error (E1). @type {ErrorCode | null} */
  #failure = null;
  /** Data that Node had received before the connection failed (R3). @type {Buffer | null} */
  #rest = null;
  /** The connection that gets the data of this one, while a pipe lasts. @type {Connection | null} */
  #sink = null;
  /** The connection whose data this one gets, while a pipe lasts. @type {Connection | null} */
  #source = null;
  /** Whether a pipe from this connection was ever made: it has no more `data` events. */
  #piped = false;
  /** Whether the last events were called. */
  #reported = false;
  /** What the instance counts as unsent of this connection (K11). */
  #counted = 0;
  /** What has moved, when the limit on idle time last looked. */
  #moved = '';
  /** When it was seen last that something had moved. */
  #movedAt = performance.now();

  /**
   * @param {import('./instance.js').Instance} instance
   * @param {number} number
   * @param {Socket} socket
   * @param {Address | null} remote
   * @param {TlsSession | null} tls
   */
  constructor(instance, number, socket, remote, tls) {
    this.#instance = instance;
    this.#number = number;
    this.#socket = socket;
    this.remote = remote;
    this.tls = tls;
    /** @type {any} */ (socket)[CONNECTION] = this;
    socket.on('data', onData);
    socket.on('end', onEnd);
    socket.on('drain', onDrained);
    socket.on('finish', onDrained);
    socket.on('error', onError);
    socket.on('close', onClose);
    if (socket.connecting) socket.on('connect', onConnect);
  }

  // --- What the service calls ---------------------------------------------------------------

  /** @param {Buffer} data which is not copied @returns {number} of the enumeration `written` */
  write(data) {
    const socket = this.#socket;
    if (!this.#sends || this.#source) return ENDED;
    socket.write(data);
    if (socket.destroyed) return ENDED;
    const unsent = socket.writableLength;
    this.#count(unsent);
    if (unsent <= HIGH_WATER) return MORE;
    if (!this.#instance.hasRoom()) {
      this.abort('out-of-memory');
      return ENDED;
    }
    this.#awaitsDrain = true;
    this.#flow();
    return WAIT;
  }

  end() {
    if (!this.#sends || this.#source) return;
    this.#ended = true;
    this.#awaitsDrain = false;
    this.#socket.end();
  }

  /** Closes gently if everything is sent, and resets otherwise (K5). */
  destroy() {
    if (this.#destroyed) return;
    const socket = this.#socket;
    if (socket.writableLength > 0 || socket.connecting) return void this.reset();
    this.#leave();
    closeGently(socket);
  }

  reset() {
    if (this.#destroyed) return;
    this.#leave();
    resetNow(this.#socket);
  }

  /** @param {boolean} paused */
  pause(paused) {
    this.#paused = paused;
    this.#flow();
  }

  get unsent() {
    return this.#over ? 0 : this.#socket.writableLength;
  }

  /** @param {boolean} allow */
  allowHalfOpen(allow) {
    this.#halfOpen = allow;
  }

  /** @param {number} milliseconds */
  setTimeout(milliseconds) {
    if (this.#over) return;
    // After 24 days, the most that Node counts, it is early.
    this.#socket.setTimeout(Math.min(milliseconds, LONGEST));
    if (this.#socket.listenerCount('timeout') === 0) this.#socket.on('timeout', onTimeout);
  }

  get local() {
    const { localAddress: host, localPort: port } = this.#socket;
    return host === undefined || port === undefined ? null : { host, port };
  }

  /** Returns whether the data of this connection now goes to `sink`. @param {Connection | undefined} sink */
  pipe(sink) {
    const receives = !this.#over && !this.#piped && !this.#socket.readableEnded;
    if (!receives || !sink || !sink.#sends || sink.#source) return false;
    this.#piped = true;
    this.#sink = sink;
    sink.#source = this;
    this.#flow();
    return true;
  }

  // --- What the host does -------------------------------------------------------------------

  /** Gives the connection up: `error` and `close` follow. @param {ErrorCode['code']} code */
  abort(code) {
    if (this.#over) return;
    this.#failed({ code });
    resetNow(this.#socket);
  }

  /** Resets the connection of an instance that has ended: no event follows. */
  discard() {
    this.#destroyed = true;
    resetNow(this.#socket);
  }

  /** Whether the socket is still connecting. */
  get connecting() {
    return this.#socket.connecting;
  }

  /** Returns since when nothing has moved, as far as it was seen. @param {number} now */
  idleSince(now) {
    const socket = this.#socket;
    // A write that the peer takes slowly shows in the queue of the handle alone.
    const queue = /** @type {any} */ (socket)._handle?.writeQueueSize ?? 0;
    const moved = `${socket.bytesRead} ${socket.bytesWritten} ${queue}`;
    if (moved !== this.#moved) {
      this.#moved = moved;
      this.#movedAt = now;
    }
    return this.#movedAt;
  }

  /**
   * Looks for a reset that Node does not see, because it neither reads nor writes (C6). The kernel
   * then has no peer any more, and says why when it is asked to write nothing.
   */
  probe() {
    const socket = this.#socket;
    const reads = !socket.isPaused() && !this.#receivedEnd;
    if (reads || !this.#sends || socket.connecting || socket.writableLength > 0) return;
    const status = /** @type {any} */ (socket)._handle?.getpeername?.({}) ?? 0;
    if (status !== 0) socket.write(NOTHING);
  }

  /** Counts anew what is unsent, exactly. */
  recount() {
    this.#count(this.unsent);
  }

  // --- What Node reports --------------------------------------------------------------------

  /** @param {Buffer} data */
  received(data) {
    // Bun reports data and the end of a socket that was destroyed.
    if (this.#over) return;
    if (!this.#piped) return this.#instance.data(this.#number, data, this);
    // After the sink's end, nobody receives the rest.
    if (this.#sink) this.#sink.#socket.write(data);
    this.#flow();
  }

  /** The peer's FIN. Like data, it waits while more than 64 KiB are unsent (K6). */
  receivedEnd() {
    this.#receivedEnd = true;
    this.#endWaits = !this.#piped && this.#socket.writableLength > HIGH_WATER;
    if (!this.#endWaits) this.#reportEnd();
  }

  drained() {
    this.#count(0);
    const due = this.#awaitsDrain;
    this.#awaitsDrain = false;
    if (due) this.#call('drain');
    if (this.#endWaits && this.#socket.writableLength <= HIGH_WATER) {
      this.#endWaits = false;
      this.#reportEnd();
    }
    this.#flow();
    if (this.#source) this.#source.#flow();
  }

  connected() {
    this.#call('connection');
  }

  timedOut() {
    this.#call('timeout');
  }

  /** @param {NodeJS.ErrnoException} error */
  errored(error) {
    if (this.#over) return;
    this.#failed(errorCode(error));
    // After an error, `read` returns what there is, and emits no event.
    this.#rest = this.#socket.read();
  }

  /** Calls the last events. What a paused service has not got is lost (K7). */
  closed() {
    if (this.#reported) return;
    const rest = this.#rest;
    this.#rest = null;
    if (rest && !this.#piped && !this.#paused && !this.#destroyed) {
      this.#instance.data(this.#number, rest, this);
    }
    this.#reported = true;
    this.#unpipe();
    if (this.#source) this.#source.#unpipe();
    this.#count(0);
    const failure = this.#destroyed ? null : this.#failure;
    this.#instance.closed(this.#number, failure, this);
  }

  // ------------------------------------------------------------------------------------------

  #reportEnd() {
    if (this.#over) return;
    const sink = this.#unpipe();
    sink?.end();
    this.#call('end');
    // A pipe that has passed FIN on leaves the other direction to the service (K2, K15).
    if (!this.#halfOpen && !sink) this.end();
  }

  /** @param {'connection' | 'end' | 'drain' | 'timeout'} event */
  #call(event) {
    if (!this.#destroyed) this.#instance.call(event, this.#number, this);
  }

  /** Whether the connection has failed or was destroyed. */
  get #over() {
    return this.#destroyed || this.#failure !== null;
  }

  /** Whether the sending direction is open. */
  get #sends() {
    return !this.#destroyed && this.#failure === null && !this.#ended && !this.#socket.destroyed;
  }

  /** @param {number} unsent */
  #count(unsent) {
    if (unsent === this.#counted) return;
    this.#instance.unsent += unsent - this.#counted;
    this.#counted = unsent;
  }

  /** @param {ErrorCode} failure */
  #failed(failure) {
    if (this.#over) return;
    this.#failure = failure;
    this.#unpipe()?.abort('connection-aborted');
    if (this.#source) this.#source.#unpipe();
  }

  /** Reads, or does not: the service has paused, or more than 64 KiB are unsent (K6). */
  #flow() {
    if (this.#over) return;
    const to = this.#piped ? this.#sink : this;
    const full = to !== null && to.#socket.writableLength > HIGH_WATER;
    if (this.#paused || full) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
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
    this.#unpipe()?.abort('connection-aborted');
    const source = this.#source;
    if (source) {
      source.#unpipe();
      source.#flow();
    }
    process.nextTick(() => this.closed());
  }
}

// The listeners of all sockets: a function for each socket and event would cost memory.

/** @this {any} @param {Buffer} data */
function onData(data) {
  this[CONNECTION].received(data);
}

/** @this {any} */
function onEnd() {
  this[CONNECTION].receivedEnd();
}

/** @this {any} */
function onDrained() {
  this[CONNECTION].drained();
}

/** @this {any} @param {NodeJS.ErrnoException} error */
function onError(error) {
  this[CONNECTION].errored(error);
}

/** @this {any} */
function onClose() {
  this[CONNECTION].closed();
}

/** @this {any} */
function onConnect() {
  this[CONNECTION].connected();
}

/** @this {any} */
function onTimeout() {
  this[CONNECTION].timedOut();
}
