// Implements `halfopen:tcp/timers`.

/** The most timers of an instance. */
const MOST = 10_000;

/** The most milliseconds that Node counts. */
const LONGEST = 0x7fff_ffff;

export class Timers {
  #fired;
  #last = 0;
  #running = new Map();

  constructor(fired) {
    this.#fired = fired;
  }

  get imports() {
    return {
      setTimer: (milliseconds) => this.#start(milliseconds, 0),
      setInterval: (milliseconds) => this.#start(Math.max(milliseconds, 1), Math.max(milliseconds, 1)),
      clear: (timer) => this.#clear(timer),
    };
  }

  clearAll() {
    for (const timer of this.#running.keys()) this.#clear(timer);
  }

  #clear(timer) {
    clearTimeout(this.#running.get(timer));
    this.#running.delete(timer);
  }

  #start(milliseconds, interval) {
    if (this.#running.size >= MOST) return 0;
    const timer = ++this.#last;
    let due = performance.now() + milliseconds;
    const wait = () => {
      const left = Math.ceil(due - performance.now());
      this.#running.set(timer, setTimeout(wake, Math.min(left, LONGEST)));
    };
    const wake = () => {
      // Node counts from the beginning of its turn, so it may be early.
      const late = performance.now() - due;
      if (late < 0) return wait();
      if (interval) {
        // Leaves out the calls that were missed.
        due += interval * (Math.floor(late / interval) + 1);
        wait();
      } else {
        this.#running.delete(timer);
      }
      this.#fired(timer);
    };
    wait();
    return timer;
  }
}
