// A line protocol: one request per line, one answer per request.
//
// TCP has no messages. A line may arrive in many chunks, and one chunk may hold many lines, so
// something has to put them together: here `Lines`, which also limits the length of a line.

import { Connection, LineError, Lines, serve } from "./halfopen.js";

class Requests extends Connection {
  lines = new Lines(1024);

  override onData(chunk: Uint8Array): void {
    for (const line of this.lines.push(chunk)) this.reply(line);
  }

  override onEnd(): void {
    const last = this.lines.finish(); // the last line needs no end
    if (last !== undefined) this.reply(last);
  }

  reply(line: string | LineError): void {
    if (!this.writable) return; // what follows `quit`
    if (line instanceof LineError) return this.end(`error: ${line.message}\n`);
    const [command, ...words] = line.split(" ");
    const text = words.join(" ");
    switch (command) {
      case "upper":
        this.write(`${text.toUpperCase()}\n`);
        break;
      case "reverse":
        this.write(`${[...text].reverse().join("")}\n`);
        break;
      case "count":
        this.write(`${[...text].length}\n`);
        break;
      case "quit":
        this.end("bye\n");
        break;
      default: {
        const known = "there are upper, reverse, count and quit";
        this.write(`error: unknown request \`${command}\`; ${known}\n`);
      }
    }
  }
}

export const events = serve(Requests);
