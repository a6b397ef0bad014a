use halfopen_guest::{Events, Socket, callbacks};

callbacks!(|_socket| Faulty);

struct Faulty;

impl Events for Faulty {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        assert!(!chunk.contains(&b'!'), "out of order");
        socket.write(chunk);
    }
}
