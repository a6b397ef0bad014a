// Obeys its client's orders. The same program as tests/guests/cases, which explains them.
// Usage: node cases.mjs [--allow-half-open]
import net from 'node:net';

const MOMENT = 250;
const allowHalfOpen = process.argv.includes('--allow-half-open');

const server = net.createServer({ allowHalfOpen, noDelay: true }, (socket) => {
  let started = false;
  let ended;
  const end = new Promise((resolve) => (ended = resolve));
  const orders = {
    w: () => socket.write('hello'),
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
    if (started) return console.log('data', chunk.length);
    started = true;
    for (const order of chunk.toString()) {
      if (order === 't') await new Promise((resolve) => setTimeout(resolve, MOMENT));
      else if (order === 'n') await end;
      else orders[order]();
    }
  });
  socket.on('end', () => (console.log('end'), ended()));
  socket.on('error', (error) => console.log('error', error.code));
  socket.on('close', (hadError) => console.log('close', hadError));
});
server.listen(0, '127.0.0.1', () => {
  const { address, port } = server.address();
  console.log(`${address}:${port}`);
});
