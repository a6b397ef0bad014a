/** The longest line; a longer one is broken. */
const LONGEST = 65_536;

/** The most bytes that wait for a slow reader. */
const MOST_WAITING = 512 << 10;

/**
 * A stream of this process that services print on, line by line. It never holds the server up:
 * while its reader is slow lines wait, and when too many do, or the reader has gone, they are
 * dropped.
 */
export class Printer {
  #stream;
  #report;
  #broken = false;
  /** The lines that were dropped since the last one that was printed. */
  #dropped = 0;

  /**
   * @param {NodeJS.WritableStream & { writableLength: number }} stream
   * @param {(lines: number) => void} report gets the number of lines that were dropped, once there is room again
   */
  constructor(stream, report) {
    this.#stream = stream;
    this.#report = report;
    // The reader has gone.
    stream.on('error', () => (this.#broken = true));
  }

  /** @param {Uint8Array} lines with their ends */
  print(lines) {
    if (this.#broken) return;
    if (this.#stream.writableLength > MOST_WAITING) {
      this.#dropped += lines.reduce((count, byte) => count + Number(byte === NEWLINE[0]), 0);
      return;
    }
    const dropped = this.#dropped;
    this.#dropped = 0;
    if (dropped > 0) this.#report(dropped);
    this.#stream.write(lines);
  }
}

/** Collects what an instance prints until a line is complete, so that lines do not mix. */
export class Lines {
  #print;
  /** @type {Uint8Array} */
  #rest = new Uint8Array();

  /** @param {(line: Uint8Array) => void} print */
  constructor(print) {
    this.#print = print;
  }

  /** @param {Uint8Array} data which is copied */
  write(data) {
    const end = data.lastIndexOf(0x0a) + 1;
    if (end > 0) {
      this.#print(Buffer.concat([this.#rest, data.subarray(0, end)]));
      this.#rest = new Uint8Array();
    }
    if (end === data.length) return;
    this.#rest = Buffer.concat([this.#rest, data.subarray(end)]);
    if (this.#rest.length >= LONGEST) this.end();
  }

  /** Prints the last line, which the instance has not ended. */
  end() {
    if (this.#rest.length > 0) this.#print(Buffer.concat([this.#rest, NEWLINE]));
    this.#rest = new Uint8Array();
  }
}

const NEWLINE = Uint8Array.of(0x0a);
