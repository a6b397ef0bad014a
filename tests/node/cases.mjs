// Obeys its client's orders. The same program as tests/guests/cases, which explains them.
// Usage: node cases.mjs [--allow-half-open] [--name-peer]
import net from 'node:net';

const MOMENT = 250;
const allowHalfOpen = process.argv.includes('--allow-half-open');
const namePeer = process.argv.includes('--name-peer');

const server = net.createServer({ allowHalfOpen, noDelay: true }, (socket) => {
  const log = (...line) => console.log(...(namePeer ? [socket.remotePort] : []), ...line);
  let started = false;
  let ended;
  const end = new Promise((resolve) => (ended = resolve));
  const orders = {
    w: () => socket.write('hello'),
    k: () => socket.write(Buffer.alloc(32 << 10, 'x')),
    W: () => socket.write(Buffer.alloc(8 << 20, 'x')),
    B: () => socket.write(Buffer.alloc(64 << 20, 'x')),
    z: () => socket.write(''),
    e: () => socket.end(),
    d: () => socket.destroy(),
    r: () => socket.resetAndDestroy(),
    p: () => socket.pause(),
    u: () => socket.resume(),
  };
  socket.on('data', async (chunk) => {
    if (started) return log('data', chunk.length);
    started = true;
    for (const order of chunk.toString()) {
      if (order === 't') await new Promise((resolve) => setTimeout(resolve, MOMENT));
      else if (order === 'n') await end;
      else orders[order]();
    }
  });
  socket.on('end', () => (log('end'), ended()));
  socket.on('error', (error) => log('error', error.code));
  socket.on('close', (hadError) => log('close', hadError));
});
server.listen(0, '127.0.0.1', () => {
  const { address, port } = server.address();
  console.log(`${address}:${port}`);
});
