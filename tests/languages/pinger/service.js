import { Connection, serve } from "./halfopen.js";
import { clear, setInterval } from "./timers.js";
export { timerEvents } from "./timers.js";

class Pinger extends Connection {
  pings = 0;
  timer = setInterval(() => this.ping(), 100);

  ping() {
    this.write("ping\n");
    if (++this.pings === 3) clear(this.timer);
  }

  onClose() {
    clear(this.timer);
  }
}

export const events = serve(Pinger);
