// What the package offers; index.d.ts describes it.
import { listen, start } from './listening.js';

/** @typedef {import('node:net').Socket} Socket */

export { UsageError } from './address.js';
export { ComponentError } from './binary/reader.js';

/**
 * @param {string | URL | Uint8Array} source
 * @param {import('../index.js').ServeOptions} [options]
 * @returns {Promise<import('../index.js').Server>}
 */
export async function serve(source, options = {}) {
  const { host = '127.0.0.1', port = 1234, backlog } = options;
  const service = await start(source, options);
  const server = await listen(service, { host, port }, backlog).catch(async (error) => {
    await service.stop(0);
    throw error;
  });
  const stop = async (grace = 10_000) => {
    server.close();
    return service.stop(grace);
  };
  return Object.assign(server, { stop });
}

/**
 * @param {string | URL | Uint8Array} source
 * @param {import('../index.js').ServiceOptions} [options]
 */
export async function listener(source, options = {}) {
  const service = await start(source, options);
  return (/** @type {Socket} */ socket) => {
    if (!socket.allowHalfOpen) throw new TypeError('make the server with `allowHalfOpen: true`');
    service.accept(socket);
  };
}
