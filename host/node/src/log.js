import { setTimeout } from 'node:timers';

/** How many entries of a kind come at once, and how long it takes until as many may come again. */
const AT_ONCE = 10;
const PERIOD = 60_000;

/** What is said without being asked for. Peers and services can cause most of it as often as they like. */
export class Log {
  #write;
  /** How many entries of each kind have come in this period. @type {Map<string, number>} */
  #counts = new Map();

  /** @param {(entry: import('../index.js').LogEntry) => void} write */
  constructor(write) {
    this.#write = write;
  }

  /**
   * Logs a warning, unless there are too many of its kind.
   *
   * @param {string} kind
   * @param {string} message
   * @param {string} [peer]
   */
  warn(kind, message, peer) {
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    if (count === 1) setTimeout(() => this.#report(kind), PERIOD).unref();
    if (count <= AT_ONCE) this.#write({ level: 'warn', message: escaped(message), ...(peer && { peer }) });
  }

  /** @param {string} kind */
  #report(kind) {
    const more = (this.#counts.get(kind) ?? 0) - AT_ONCE;
    this.#counts.delete(kind);
    if (more > 0) this.#write({ level: 'warn', message: `${more} more of the same kind: ${kind}` });
  }
}

/** Escapes what would end a line or change a terminal. @param {string} message */
const escaped = (message) =>
  message
    .slice(0, 4096)
    .replace(
      /[\p{Cc}\p{Cf}\u2028\u2029]/gu,
      (character) => `\\u{${/** @type {number} */ (character.codePointAt(0)).toString(16)}}`,
    );
