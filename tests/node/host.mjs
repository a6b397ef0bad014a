// Serves a service component on Node. Usage:
// node host.mjs COMPONENT --listen ADDRESS [--listen ADDRESS] -- ARGUMENTS
import net from 'node:net';

import { _setArgs } from '@bytecodealliance/preview3-shim/cli';

import { Connection } from './connection.mjs';
import { load } from './load.mjs';

const [component, ...rest] = process.argv.slice(2);
const split = rest.indexOf('--');
const listen = rest.slice(0, split).filter((word) => word !== '--listen');
_setArgs(['service', ...rest.slice(split + 1)]);
const { handler } = await load(component);

async function serve(socket) {
  const connection = new Connection(socket);
  try {
    await handler.handle(connection);
  } catch (error) {
    // Resets this connection, and no other (C4).
    connection.reset();
    console.error(`the service failed: ${error.payload ?? error.stack}`);
  }
}

for (const address of listen) {
  const [, host, port] = /^\[?(.+?)\]?:(\d+)$/.exec(address) ?? [];
  if (!net.isIP(host ?? '') || port > 65_535) {
    console.error(`error: not an address to listen on: ${address}`);
    process.exit(1);
  }
  const server = net.createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, serve);
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port: Number(port), ipv6Only: true }, resolve);
  }).catch((error) => {
    console.error(`error: cannot listen on ${address}: ${error.message}`);
    process.exit(1);
  });
  const bound = server.address();
  console.log(bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`);
}
