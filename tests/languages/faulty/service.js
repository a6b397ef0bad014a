import { Connection, serve } from "./halfopen.js";

class Faulty extends Connection {
  onData(chunk) {
    if (chunk.includes("!".charCodeAt(0))) throw new Error("out of order");
    this.write(chunk);
  }
}

export const events = serve(Faulty);
