import { once } from 'node:events';
import net from 'node:net';

import { text } from './address.js';
import { load } from './component.js';
import { Service } from './service.js';
import { settings } from './settings.js';

/** The options of sockets that the rules of the contract need: both directions end on their own. */
const SOCKETS = { allowHalfOpen: true, noDelay: true };

/**
 * Makes a service of a component.
 *
 * @param {string | URL | Uint8Array} source
 * @param {import('../index.js').ServiceOptions} options
 */
export async function start(source, options) {
  const chosen = settings(options);
  return new Service(await load(source, chosen.maxMemory), chosen);
}

/**
 * Serves on an address, and returns the server once it listens.
 *
 * @param {Service} service
 * @param {import('./imports/types.js').Address} address
 * @param {number} [backlog]
 */
export async function listen(service, { host, port }, backlog = 511) {
  const server = net.createServer(SOCKETS, (socket) => service.accept(socket));
  // An IPv6 listener accepts IPv6 alone (L8).
  server.listen({ host, port, backlog, ipv6Only: true });
  await once(server, 'listening');
  // A connection that could not be accepted ends nothing else (L5).
  server.on('error', (error) => service.settings.log.warn('accept', `cannot accept: ${error.message}`));
  return server;
}

/** Returns the address of a server, as it is printed. @param {net.Server} server */
export function boundAddress(server) {
  const { address, port } = /** @type {net.AddressInfo} */ (server.address());
  return text({ host: address, port });
}
