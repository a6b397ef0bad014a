// An echo on workerd that connects the streams, whose bytes never enter JavaScript.
export default {
  connect(socket) {
    return socket.readable.pipeTo(socket.writable);
  },
};
