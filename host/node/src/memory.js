/** What ends an instance, other than the engine's own errors. */
export class Trap extends Error {
  name = 'Trap';
}

/** Up to this many bytes are copied one by one. */
const SHORT = 128;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** What a memory has before its bytes are asked for. */
const NO_BYTES = new Uint8Array();
const NO_VIEW = new DataView(NO_BYTES.buffer);

/**
 * The memory of an instance, as the functions see it that cross its border. Whatever numbers the
 * instance passes, nothing outside its memory is read or written.
 */
export class GuestMemory {
  #memory;
  #realloc;
  #bytes = NO_BYTES;
  #view = NO_VIEW;

  /**
   * @param {WebAssembly.Memory} memory
   * @param {((old: number, oldSize: number, align: number, size: number) => number) | null} realloc
   */
  constructor(memory, realloc) {
    this.#memory = memory;
    this.#realloc = realloc;
  }

  /** Whether it is made of these two. @param {WebAssembly.Memory} memory @param {Function | null} realloc */
  is(memory, realloc) {
    return memory === this.#memory && realloc === this.#realloc;
  }

  /** All bytes. Growing the memory detaches the array, so it must not be kept. */
  get bytes() {
    // A detached array has no length; to ask the memory for its buffer takes longer.
    if (this.#bytes.length === 0) this.#bytes = new Uint8Array(this.#memory.buffer);
    return this.#bytes;
  }

  get view() {
    if (this.#view.buffer.byteLength === 0) this.#view = new DataView(this.#memory.buffer);
    return this.#view;
  }

  /**
   * Returns the bytes of a list; only until the instance runs again.
   *
   * @param {number} at
   * @param {number} length
   */
  slice(at, length) {
    at >>>= 0;
    length >>>= 0;
    const { bytes } = this;
    if (at + length > bytes.length) throw new Trap('a list lies outside the memory');
    return bytes.subarray(at, at + length);
  }

  /**
   * Returns a copy of the bytes of a list.
   *
   * @param {number} at
   * @param {number} length
   */
  copy(at, length) {
    at >>>= 0;
    length >>>= 0;
    const { bytes } = this;
    if (at + length > bytes.length) throw new Trap('a list lies outside the memory');
    const copy = Buffer.allocUnsafe(length);
    // A view of a part is garbage, and costs more than a few steps.
    if (length <= SHORT) for (let index = 0; index < length; index += 1) copy[index] = bytes[at + index];
    else copy.set(bytes.subarray(at, at + length));
    return copy;
  }

  /**
   * @param {number} size
   * @param {number} align
   */
  allocate(size, align) {
    if (!this.#realloc) throw new Trap('there is nothing to allocate memory with');
    const at = this.#realloc(0, 0, align, size) >>> 0;
    if (at % align !== 0 || at + size > this.bytes.length) {
      throw new Trap('what was allocated lies outside the memory');
    }
    return at;
  }

  /**
   * Copies bytes into the memory, and returns their place.
   *
   * @param {Uint8Array} data
   */
  put(data) {
    const at = this.allocate(data.length, 1);
    this.bytes.set(data, at);
    return at;
  }

  /**
   * Copies a string into the memory, and writes its place and length at `at`.
   *
   * @param {number} at
   * @param {string} text
   */
  putText(at, text) {
    const data = encoder.encode(text);
    this.putList(at, this.put(data), data.length);
  }

  /**
   * Writes the place and length of a list.
   *
   * @param {number} at
   * @param {number} place
   * @param {number} length
   */
  putList(at, place, length) {
    this.view.setUint32(at, place, true);
    this.view.setUint32(at + 4, length, true);
  }

  /**
   * Reads a string.
   *
   * @param {number} at
   * @param {number} length
   */
  text(at, length) {
    try {
      return decoder.decode(this.slice(at, length));
    } catch (error) {
      throw error instanceof Trap ? error : new Trap('a string is not UTF-8');
    }
  }
}
