// An echo on workerd that copies each chunk through JavaScript.
export default {
  async connect(socket) {
    const writer = socket.writable.getWriter();
    for await (const chunk of socket.readable) await writer.write(chunk);
    await writer.close();
  },
};
