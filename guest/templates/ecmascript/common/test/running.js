// Starts the service for a test. HALFOPEN names the command, if it is not on the path.

import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import readline from "node:readline";

export async function start() {
  const command = process.env.HALFOPEN ?? "halfopen";
  const flags = ["serve", "build/service.wasm", "--listen", "127.0.0.1:0"];
  const server = spawn(command, flags, { stdio: ["ignore", "pipe", "inherit"] });
  const lines = readline.createInterface({ input: server.stdout })[Symbol.asyncIterator]();
  const { value: address, done } = await lines.next(); // the first line
  if (done) throw new Error("the server did not start");
  const [host, port] = address.split(":");
  return {
    connect: () => net.connect({ host, port: Number(port), allowHalfOpen: true }),
    line: async () => (await lines.next()).value,
    async stop() {
      server.kill();
      await once(server, "exit");
    },
  };
}

// Everything that the peer sends until its FIN.
export async function rest(socket) {
  const chunks = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
