// What the primitives on `node:net` need: errors, addresses, closing, listening.
import net from 'node:net';

const LINGER_IDLE = 2_000;
const LINGER_TOTAL = 30_000;

const CODES = {
  EACCES: 'access-denied',
  EADDRNOTAVAIL: 'address-not-bindable',
  ECONNABORTED: 'connection-aborted',
  ECONNREFUSED: 'connection-refused',
  ECONNRESET: 'connection-reset',
  EHOSTUNREACH: 'remote-unreachable',
  EINVAL: 'invalid-argument',
  ENETUNREACH: 'remote-unreachable',
  EPERM: 'access-denied',
  EPIPE: 'connection-broken',
  ETIMEDOUT: 'timeout',
};

/** Returns the `error-code` of an error of Node. */
export function errorCode(error) {
  const tag = CODES[error.code];
  return tag ? { tag } : { tag: 'other', val: error.message };
}

/**
 * Closes gently (C2): sends FIN, then reads and discards, because unread data would become
 * RST.
 */
export function closeGently(socket) {
  socket.end();
  if (socket.readableEnded || socket.destroyed) return;
  socket.resume();
  socket.setTimeout(LINGER_IDLE, () => socket.destroy());
  const total = setTimeout(() => socket.destroy(), LINGER_TOTAL);
  socket.once('close', () => clearTimeout(total));
}

/**
 * Makes an `ip-socket-address`. Throws the error `invalid-state` if Node has no address: the
 * connection is closed, or was reset before it was accepted.
 */
export function address(host, port) {
  if (host === undefined) throw { tag: 'invalid-state' };
  if (!host.includes(':')) {
    return { tag: 'ipv4', val: { port, address: host.split('.').map(Number) } };
  }
  // Node cannot parse IPv6 addresses; URL normalises them, to at most one `::`.
  const [left, right] = new URL(`http://[${host.split('%')[0]}]`).hostname.slice(1, -1).split('::')
    .map((half) => (half ? half.split(':').map((group) => parseInt(group, 16)) : []));
  const zeros = right ? Array(8 - left.length - right.length).fill(0) : [];
  return { tag: 'ipv6', val: { port, flowInfo: 0, address: [...left, ...zeros, ...(right ?? [])], scopeId: 0 } };
}

/** Divides `127.0.0.1:80` or `[::1]:80`; ends the process if it is neither. */
function parse(address) {
  const [, host, port] = /^\[?(.+?)\]?:(\d+)$/.exec(address) ?? [];
  if (net.isIP(host ?? '') && !(port > 65_535)) return [host, port];
  console.error(`error: not an address to listen on: ${address}; write 127.0.0.1:80 or [::1]:80`);
  process.exit(1);
}

/** Listens on addresses, one after the other, and prints each; `accept` gets the sockets. */
export async function listen(addresses, options, accept) {
  for (const address of addresses) {
    const [host, port] = parse(address);
    const server = net.createServer({ allowHalfOpen: true, noDelay: true, ...options }, accept);
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
}
