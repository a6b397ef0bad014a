// An echo server: it sends back all data, and ends its side after a chunk that contains a `q`.

import { Connection, args, serve } from "./halfopen.js";

class Echo extends Connection {
  readonly quiet = args().includes("--quiet");
  readonly halfOpen = args().includes("--allow-half-open");

  override onOpen(): void {
    this.allowHalfOpen(this.halfOpen);
    this.log(`new connection ${this.remoteAddress} ${this.remotePort}`);
  }

  override onData(chunk: Uint8Array): void {
    if (!this.quiet) this.log(`data: ${buffer(chunk)}`);
    // After our own end nothing is sent any more.
    if (this.write(chunk) && chunk.includes("q".charCodeAt(0))) {
      this.log("closing.");
      this.end();
    }
  }

  override onEnd(): void {
    this.log("EOF.");
    // With half-open connections allowed, this side does not end by itself.
    if (this.halfOpen) this.end();
  }

  override onError(name: string): void {
    this.log(`error: ${name}`);
  }

  private log(line: string): void {
    if (!this.quiet) console.log(line);
  }
}

/** As Node prints a Buffer: the first 50 bytes, and how many more there are. */
function buffer(bytes: Uint8Array): string {
  const hex = Array.from(bytes.subarray(0, 50), (byte) => byte.toString(16).padStart(2, "0"));
  const more = bytes.length - hex.length;
  if (more > 0) hex.push(`... ${more} more byte${more > 1 ? "s" : ""}`);
  return `<Buffer ${hex.join(" ")}>`;
}

export const events = serve(Echo);
