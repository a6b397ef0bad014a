/** A file that is not a component, or that this host cannot run. The message is one line. */
export class ComponentError extends Error {
  name = 'ComponentError';
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The deepest nesting of components and types. wit-component nests two or three. */
const DEEPEST = 32;

/** Reads the primitive values of the binary format, and never past the end. */
export class Reader {
  /** @type {Uint8Array} */
  bytes;
  /** The place of the next byte. */
  at;
  /** The place behind the last byte. */
  end;
  /** How deeply this reader lies in components or types. */
  depth;

  /**
   * @param {Uint8Array} bytes
   * @param {number} [at]
   * @param {number} [end]
   * @param {number} [depth]
   */
  constructor(bytes, at = 0, end = bytes.length, depth = 0) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
    this.depth = depth;
  }

  get done() {
    return this.at >= this.end;
  }

  /**
   * Returns the error for what cannot be read at this place.
   *
   * @param {string} what
   */
  wrong(what) {
    return new ComponentError(`not a valid component: ${what} at byte ${this.at}`);
  }

  byte() {
    if (this.done) throw this.wrong('it ends too early');
    return this.bytes[this.at++];
  }

  /** Reads an unsigned number of at most 32 bits (LEB128). */
  u32() {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        if (value > 0xffff_ffff) break;
        return value;
      }
    }
    throw this.wrong('a number is too large');
  }

  name() {
    const bytes = this.take(this.u32());
    try {
      return utf8.decode(bytes);
    } catch {
      throw this.wrong('a name is not UTF-8');
    }
  }

  /**
   * Returns the next bytes.
   *
   * @param {number} count
   */
  take(count) {
    if (count > this.end - this.at) throw this.wrong('it ends too early');
    return this.bytes.subarray(this.at, (this.at += count));
  }

  /**
   * Returns a reader of the next bytes, which it skips.
   *
   * @param {number} count
   */
  part(count) {
    const at = this.at;
    this.take(count);
    return new Reader(this.bytes, at, at + count, this.depth);
  }

  /** Goes one level deeper, for what `read` reads.
   *
   * @template T
   * @param {() => T} read
   * @returns {T}
   */
  nested(read) {
    if (++this.depth > DEEPEST) throw this.wrong('it is nested too deeply');
    const value = read();
    this.depth -= 1;
    return value;
  }

  /**
   * Reads a vector. Each element takes up a byte at least, so that its length needs no limit.
   *
   * @template T
   * @param {() => T} element
   * @returns {T[]}
   */
  vector(element) {
    const count = this.u32();
    const values = [];
    for (let index = 0; index < count; index += 1) values.push(element());
    return values;
  }

  /**
   * Returns an element of an index space.
   *
   * @template T
   * @param {T[]} space
   * @param {number} index
   * @returns {T}
   */
  of(space, index) {
    if (index >= space.length) throw this.wrong(`there is no number ${index} of its kind`);
    return space[index];
  }
}
