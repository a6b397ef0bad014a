// The stream of events, from the server to the page.

/** How long to wait after the server has refused the stream, in milliseconds. */
const RETRY = 3000;
/** How many events wait while the page is paused. */
const MOST = 20000;

export class Source {
  /** `take` gets each event; `tell` learns whether the stream flows. */
  constructor(take, tell) {
    this.take = take;
    this.tell = tell;
    this.paused = false;
    this.held = [];
    this.overflowed = false;
    this.open();
  }

  open() {
    this.stream?.close();
    this.stream = new EventSource('/events');
    this.stream.onopen = () => this.tell(true);
    this.stream.onmessage = ({ data }) => this.#arrived(JSON.parse(data));
    this.stream.onerror = () => {
      this.tell(false);
      // The browser connects again by itself, except after an answer that is an error.
      if (this.stream.readyState === EventSource.CLOSED) setTimeout(() => this.open(), RETRY);
    };
  }

  pause() {
    this.paused = true;
  }

  /** Takes in what came meanwhile. Returns false if that was too much, and is gone. */
  resume() {
    this.paused = false;
    const { held, overflowed } = this;
    this.held = [];
    this.overflowed = false;
    if (overflowed) this.open();
    else held.forEach((event) => this.take(event));
    return !overflowed;
  }

  #arrived(event) {
    if (!this.paused) this.take(event);
    else if (this.held.length < MOST) this.held.push(event);
    else this.overflowed = true;
  }
}
