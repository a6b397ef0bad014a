// Implements `halfopen:tcp/connections` and `halfopen:tcp/peer` on `node:net`, for components
// that jco has translated. Rules such as C2 are in wit/SEMANTICS.md.

import { address, closeGently, errorCode } from './network.mjs';

const OK = { tag: 'ok', val: undefined };

export class Connection {
  #socket;
  /** The peer's address and port, which outlast a reset. */
  #remote;
  /** Counts the handle, and each direction that was taken and has not ended (C2). */
  #holders = 1;
  #taken = { read: false, write: false };
  /** The connection's first error, which both directions report (E1). */
  #failure = null;
  #failed;

  constructor(socket) {
    this.#socket = socket;
    this.#remote = [socket.remoteAddress, socket.remotePort];
    this.#failed = new Promise((resolve) => {
      socket.once('error', (error) => {
        this.#failure ??= { tag: 'err', val: errorCode(error) };
        resolve(this.#failure);
      });
      socket.once('aborted', resolve);
    });
    // Ignores later errors, of a socket that is being closed.
    socket.on('error', () => {});
  }

  localAddress() {
    return address(this.#socket.localAddress, this.#socket.localPort);
  }

  remoteAddress() {
    return address(...this.#remote);
  }

  read() {
    if (this.#take('read')) return [[], Promise.resolve(invalidState)];
    const receiver = new Receiver(this.#socket, this.#failed);
    const ended = receiver.ended.then(() => this.#failure ?? OK);
    return [receiver, this.#released(ended)];
  }

  write(data) {
    if (this.#take('write')) return Promise.resolve(invalidState);
    return this.#released(this.#send(data));
  }

  async #send(data) {
    const failed = this.#failed.then(() => ({ failed: true }));
    for (;;) {
      const { value, done, failed: over } = await Promise.race([data.read({ count: 65_536 }), failed]);
      if (over) {
        // Dropping the reader tells the program that nothing more is sent (W5).
        data[Symbol.dispose]();
        return this.#failure;
      }
      if (value?.length && (await this.#flushed(Uint8Array.from(value)))) {
        data[Symbol.dispose]();
        return this.#failure;
      }
      if (done) break;
    }
    const finished = new Promise((resolve) => this.#socket.end(() => resolve(OK)));
    return Promise.race([finished, this.#failed]);
  }

  /** Sends, and waits until the kernel has the bytes (W6) or the connection fails. */
  #flushed(bytes) {
    const flushed = new Promise((resolve) => {
      this.#socket.write(bytes, (error) => { if (!error) resolve(null); });
    });
    return Promise.race([flushed, this.#failed]);
  }

  static reset(connection) {
    connection.reset();
    connection[Symbol.dispose]();
  }

  /** Sends RST at once (C3). */
  reset() {
    const socket = this.#socket;
    if (socket.destroyed) return;
    this.#failure ??= { tag: 'err', val: { tag: 'connection-aborted' } };
    socket.emit('aborted', this.#failure);
    socket.resetAndDestroy();
  }

  [Symbol.dispose]() {
    this.#release();
  }

  #take(direction) {
    const taken = this.#taken[direction];
    this.#taken[direction] = true;
    if (!taken) this.#holders += 1;
    return taken;
  }

  #released(ended) {
    return ended.finally(() => this.#release());
  }

  #release() {
    this.#holders -= 1;
    if (this.#holders > 0) return;
    const socket = this.#socket;
    if (this.#failure) {
      socket.destroy();
      return;
    }
    closeGently(socket);
  }
}

/** The peer's data, as an async iterator of chunks. It reads only on demand (R5). */
class Receiver {
  #socket;
  #failed;
  #end;
  #dropped = false;

  constructor(socket, failed) {
    this.#socket = socket;
    this.#failed = failed;
    this.ended = new Promise((resolve) => { this.#end = resolve; });
    // Ends an idle connection after a reset as well (C6).
    failed.then(() => this.#end());
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    const socket = this.#socket;
    for (;;) {
      if (this.#dropped) return { done: true };
      const value = socket.read();
      if (value) return { done: false, value };
      if (socket.readableEnded || socket.destroyed) break;
      const stop = new AbortController();
      const heard = ['readable', 'end', 'close'].map(
        (event) => new Promise((resolve) => socket.once(event, resolve)
          && stop.signal.addEventListener('abort', () => socket.off(event, resolve))),
      );
      await Promise.race([...heard, this.#failed]);
      stop.abort();
    }
    this.#end();
    return { done: true };
  }

  /** The program drops the stream before its end (R6). */
  async return() {
    this.#dropped = true;
    this.#end();
    return { done: true };
  }
}

/** `halfopen:tcp/peer`: no peer has a TLS session here (P1). */
export const tls = () => undefined;

const invalidState = { tag: 'err', val: { tag: 'invalid-state' } };
