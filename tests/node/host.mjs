// Serves a service component on Node. Usage:
// node host.mjs COMPONENT --listen ADDRESS [--listen ADDRESS] -- ARGUMENTS
import { _setArgs } from '@bytecodealliance/preview3-shim/cli';

import { Connection } from './connection.mjs';
import { load } from './load.mjs';
import { listen } from './network.mjs';

const [component, ...rest] = process.argv.slice(2);
const split = rest.indexOf('--');
const addresses = rest.slice(0, split).filter((word) => word !== '--listen');
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

await listen(addresses, { pauseOnConnect: true }, serve);
