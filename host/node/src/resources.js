import { Trap } from './memory.js';

/** The most handles of an instance. */
const MOST = 10_000;

/** The handles of an instance: each stands for something of the host's. */
export class Resources {
  /** @type {any[]} */
  #slots = [null];
  /** @type {number[]} */
  #free = [];

  /** @param {object} value @returns {number} a handle, never 0 */
  add(value) {
    const handle = this.#free.pop() ?? this.#slots.length;
    if (handle > MOST) throw new Trap(`it has more than ${MOST} handles`);
    this.#slots[handle] = value;
    return handle;
  }

  /**
   * Returns what a handle stands for; traps if it is not one of these.
   *
   * @template T
   * @param {number} handle
   * @param {new (...values: any[]) => T} kind
   * @returns {T}
   */
  get(handle, kind) {
    const value = this.#slots[handle >>> 0];
    if (!(value instanceof kind)) throw new Trap(`handle ${handle >>> 0} is of another kind, or none`);
    return value;
  }

  /** @param {number} handle */
  drop(handle) {
    handle >>>= 0;
    if (!this.#slots[handle]) throw new Trap(`there is no handle ${handle}`);
    this.#slots[handle] = null;
    this.#free.push(handle);
  }
}
