/** The UTF-8 of a text. */
export function utf8(text: string): Uint8Array;

/** The text in UTF-8; what is none becomes U+FFFD. */
export function text(bytes: Uint8Array): string;

/** Why there is no line: it is too long, and its rest is left out, or it is not UTF-8. */
export class LineError extends Error {}

/** Makes lines of chunks. A peer that never ends its line fills no memory. */
export class Lines {
  /** Of at most so many bytes each, without the end: `\n` or `\r\n`. */
  constructor(limit?: number);
  /** The lines that this chunk completes. */
  push(chunk: Uint8Array): (string | LineError)[];
  /** What came after the last end of a line, if anything did. */
  finish(): string | LineError | undefined;
}

/** The arguments of the service, which follow `--` on the command line. */
export function args(): string[];

/**
 * A connection. A service extends this class: an object is made for each connection, its
 * `on` methods are called with what happens, one at a time, and its fields are the state of the
 * connection.
 */
export class Connection {
  constructor(socket: number);

  /** The connection begins. */
  onOpen(): void;
  /** Data has arrived. How it is divided into chunks has no meaning: TCP is a stream of bytes. */
  onData(chunk: Uint8Array): void;
  /**
   * The peer has sent FIN. What is written now is still sent; then this side ends as well, unless
   * half-open connections are allowed.
   */
  onEnd(): void;
  /** Everything written is with the operating system, after more than 64 KiB waited. */
  onDrain(): void;
  /** The time of `setTimeout` is over. */
  onTimeout(): void;
  /** The connection has failed, as Node names it: "ECONNRESET". Only `onClose` follows. */
  onError(name: string): void;
  /** The connection is over. Comes last, and once. */
  onClose(hadError: boolean): void;

  /** Sends data. False if it was not taken: this side has ended, or the connection has gone. */
  write(data: string | Uint8Array): boolean;
  /** Sends FIN behind what was written. Data from the peer keeps arriving. */
  end(data?: string | Uint8Array): void;
  /** Closes at once; resets if not everything written can be sent immediately. */
  destroy(): void;
  /** Sends RST: the peer cannot take a part for the whole. */
  reset(): void;
  /** Holds back `onData` until `resume`. */
  pause(): void;
  resume(): void;
  /** Whether this side has not ended yet, as far as it is known. */
  get writable(): boolean;
  /** Bytes that the operating system has not taken yet. */
  get unsent(): number;
  /** Whether this side stays open after the peer's FIN, until `end`. */
  allowHalfOpen(allow: boolean): void;
  /** Calls `onTimeout` after this many milliseconds without data; 0 never does. */
  setTimeout(milliseconds: number): void;

  get remoteAddress(): string | undefined;
  get remotePort(): number | undefined;
  get localAddress(): string | undefined;
  get localPort(): number | undefined;
}

/** What the host calls; made by `serve`. */
export interface Events {}

/**
 * The export `events` of a service whose connections are of this class. What a handler throws is
 * printed, and resets its own connection: the others go on.
 */
export function serve(Class: new (socket: number) => Connection): Events;

declare global {
  var console: {
    log(...values: unknown[]): void;
    info(...values: unknown[]): void;
    debug(...values: unknown[]): void;
    warn(...values: unknown[]): void;
    error(...values: unknown[]): void;
  };
}
