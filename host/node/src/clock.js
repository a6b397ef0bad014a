import { clearTimeout, setTimeout } from 'node:timers';

/** The most timers of an instance (K13). */
const MOST = 10_000;

/** The most milliseconds that Node counts. */
const LONGEST = 0x7fff_ffff;

/** @typedef {{ number: number, due: number, interval: number }} Timer */

/**
 * The timers of an instance. They fire in the order of their times, late and never early, and keep
 * no process running.
 */
export class Clock {
  #fired;
  #last = 0;
  #wrapped = false;
  /** The running timers, the next one last. @type {Timer[]} */
  #timers = [];
  /** @type {NodeJS.Timeout | null} */
  #alarm = null;
  /** The time for which the alarm is set. */
  #set = Infinity;

  /** @param {(timer: number) => void} fired */
  constructor(fired) {
    this.#fired = fired;
  }

  /**
   * Sets a timer, and returns its number; 0 if there are too many. `interval` is 0 for once.
   *
   * @param {number} milliseconds
   * @param {number} interval
   */
  set(milliseconds, interval) {
    if (this.#timers.length >= MOST) return 0;
    const number = this.#next();
    this.#insert({ number, due: performance.now() + milliseconds, interval });
    this.#wait();
    return number;
  }

  /** @param {number} number */
  clear(number) {
    const at = this.#timers.findIndex((timer) => timer.number === number);
    if (at >= 0) this.#timers.splice(at, 1);
  }

  clearAll() {
    this.#timers = [];
    if (this.#alarm) clearTimeout(this.#alarm);
    this.#alarm = null;
    this.#set = Infinity;
  }

  /** Returns the next number that no timer has (K10). */
  #next() {
    do {
      this.#wrapped ||= this.#last === 0xffff_ffff;
      this.#last = (this.#last % 0xffff_ffff) + 1;
    } while (this.#wrapped && this.#timers.some(({ number }) => number === this.#last));
    return this.#last;
  }

  /** @param {Timer} timer */
  #insert(timer) {
    let [low, high] = [0, this.#timers.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#timers[middle].due > timer.due) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
  }

  #wait() {
    const next = this.#timers.at(-1);
    // An alarm that comes too early is set anew when it comes.
    if (!next || next.due >= this.#set) return;
    if (this.#alarm) clearTimeout(this.#alarm);
    this.#set = next.due;
    const left = Math.max(Math.ceil(next.due - performance.now()), 0);
    this.#alarm = setTimeout(() => this.#ring(), Math.min(left, LONGEST));
    this.#alarm.unref();
  }

  #ring() {
    this.#alarm = null;
    this.#set = Infinity;
    const now = performance.now();
    // What is set meanwhile is due later, and comes the next time: sockets have their turn.
    for (;;) {
      const timer = this.#timers.at(-1);
      if (!timer || timer.due > now) break;
      this.#timers.pop();
      if (timer.interval) {
        // The calls that were missed are left out.
        timer.due += timer.interval * (Math.floor((now - timer.due) / timer.interval) + 1);
        this.#insert(timer);
      }
      this.#fired(timer.number);
    }
    this.#wait();
  }
}
