// The echo server for Node, with which guest/examples/echo is compared. Usage:
// node echo.mjs [--allow-half-open] [--quiet] [--pipe]
import net from 'node:net';

const allowHalfOpen = process.argv.includes('--allow-half-open');
const quiet = process.argv.includes('--quiet');
const log = (...args) => quiet || console.log(...args);

const server = net.createServer({ allowHalfOpen, noDelay: true }, (socket) => {
  if (process.argv.includes('--pipe')) {
    socket.on('error', () => {});
    socket.pipe(socket);
    return;
  }
  log('new connection', socket.remoteAddress, socket.remotePort);
  socket.on('data', (data) => {
    log('data:', data);
    socket.write(data);
    if (data.includes('q')) {
      log('closing.');
      socket.end();
    }
  });
  socket.on('end', () => {
    log('EOF.');
    if (allowHalfOpen) socket.end();
  });
  socket.on('error', (error) => log('error:', error.code));
});
server.listen(0, '127.0.0.1', () => {
  const { address, port } = server.address();
  console.log(`${address}:${port}`);
});
