// An echo on workerd that copies each chunk through JavaScript. Its buffer has 64 KiB, as
// those of the other servers: read without one, a chunk has 4 KiB at most.
export default {
  async connect(socket) {
    const reader = socket.readable.getReader({ mode: 'byob' });
    const writer = socket.writable.getWriter();
    let buffer = new ArrayBuffer(64 << 10);
    for (;;) {
      const { value, done } = await reader.read(new Uint8Array(buffer));
      if (done) break;
      await writer.write(value);
      buffer = value.buffer;
    }
    await writer.close();
  },
};
