// The two ways in which this side closes a connection.
import { clearTimeout, setTimeout } from 'node:timers';

/** @typedef {import('node:net').Socket} Socket */

/** How long a closed connection waits for its peer: without data, and in all (C2). */
const LINGER_IDLE = 2_000;
const LINGER_TOTAL = 30_000;

/** Sends RST, if the connection exists. @param {Socket} socket */
export function resetNow(socket) {
  if (socket.destroyed) return;
  // A socket that connects, and one of TLS, has no reset.
  if (socket.connecting || /** @type {any} */ (socket).encrypted) socket.destroy();
  else socket.resetAndDestroy();
}

/**
 * Closes gently (C2): sends FIN, then reads and discards, because unread data would become RST.
 *
 * @param {Socket} socket
 */
export function closeGently(socket) {
  socket.end();
  if (socket.readableEnded || socket.destroyed) return;
  socket.resume();
  socket.setTimeout(LINGER_IDLE, () => socket.destroy());
  const total = setTimeout(() => socket.destroy(), LINGER_TOTAL);
  socket.once('close', () => clearTimeout(total));
}
