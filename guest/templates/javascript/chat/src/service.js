// A chat: each line goes to everybody else. All connections share one instance, as wit/service.wit
// declares.

import { Connection, LineError, Lines, serve } from "./halfopen.js";

// The most unsent bytes of a client: one that reads too slowly is dropped, and keeps nobody waiting.
const BEHIND = 1 << 20;

const room = new Map();

class Client extends Connection {
  lines = new Lines(1000);
  name = "";

  onOpen() {
    this.tell("What is your name?\n");
  }

  onData(chunk) {
    for (const line of this.lines.push(chunk)) {
      if (!this.writable) return; // what follows `/quit`
      if (line instanceof LineError) {
        this.tell(`error: ${line.message}\n`);
        this.destroy();
      } else {
        this.onLine(line);
      }
    }
  }

  onLine(line) {
    if (line === "/quit") {
      this.leave();
      this.tell("Bye.\n");
      this.end();
    } else if (this.name === "") {
      this.enter(line);
    } else if (line === "/who") {
      this.tell(`* here: ${[...room.keys()].join(", ")}\n`);
    } else {
      // Without control characters, which terminals obey.
      this.tellOthers(`${this.name}: ${line.replace(/\p{Cc}/gu, "")}\n`);
    }
  }

  enter(name) {
    if (!/^[\p{L}\p{N}]{1,20}$/u.test(name)) return this.tell("Use 1 to 20 letters and digits.\n");
    if (room.has(name)) return this.tell("That name is taken.\n");
    this.name = name;
    room.set(name, this);
    this.tell("Welcome. There are /who and /quit.\n");
    this.tellOthers(`* ${name} is here\n`);
  }

  leave() {
    if (room.delete(this.name)) this.tellOthers(`* ${this.name} has left\n`);
    this.name = "";
  }

  tell(text) {
    this.write(text);
    if (this.unsent > BEHIND) this.reset();
  }

  tellOthers(text) {
    for (const other of room.values()) {
      if (other !== this) other.tell(text);
    }
  }

  onClose() {
    this.leave();
  }
}

export const events = serve(Client);
