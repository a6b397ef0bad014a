import { Connection, serve } from "./halfopen.js";

class Faulty extends Connection {
  override onData(chunk: Uint8Array): void {
    if (chunk.includes("!".charCodeAt(0))) throw new Error("out of order");
    this.write(chunk);
  }
}

export const events = serve(Faulty);
