//! A service whose connections wake each other, for the tests: it sends the data of each
//! client to all clients of the same instance, including the sender. It runs in callback
//! style, or in await style with the argument `--await`.
//!
//! Each connection starts with a greeting, which tells the client that it takes part.

use std::cell::RefCell;

use halfopen_guest::futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use halfopen_guest::futures::future::try_join;
use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use halfopen_guest::{Connection, Events, Options, ReadHalf, Socket, WriteHalf, env, service};

const GREETING: &[u8] = b"welcome\n";

thread_local! {
    static SOCKETS: RefCell<Vec<Socket>> = const { RefCell::new(Vec::new()) };
    static QUEUES: RefCell<Vec<UnboundedSender<Vec<u8>>>> = const { RefCell::new(Vec::new()) };
}

service!(handle);

async fn handle(connection: Connection) -> std::io::Result<()> {
    if env::args().iter().any(|argument| argument == "--await") {
        let (receive, send) = connection.split();
        let (sender, queue) = unbounded();
        QUEUES.with_borrow_mut(|queues| queues.push(sender.clone()));
        try_join(forward(receive, sender), deliver(send, queue)).await?;
    } else {
        let open = |socket: &Socket| {
            SOCKETS.with_borrow_mut(|sockets| sockets.push(socket.clone()));
            socket.write(GREETING);
            Broadcast
        };
        connection.serve(Options::default(), open).await;
    }
    Ok(())
}

struct Broadcast;

impl Events for Broadcast {
    fn data(&mut self, _: &Socket, chunk: Vec<u8>) {
        SOCKETS.with_borrow(|sockets| {
            for socket in sockets {
                socket.write(&chunk[..]);
            }
        });
    }

    fn close(&mut self, _: &Socket, _: bool) {
        // The closing socket is no longer writable.
        SOCKETS.with_borrow_mut(|sockets| sockets.retain(Socket::is_writable));
    }
}

/// Queues the data of this peer for all peers, until its FIN.
async fn forward(mut receive: ReadHalf, own: UnboundedSender<Vec<u8>>) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let length = receive.read(&mut buffer).await?;
        if length == 0 {
            // Queued data is still delivered; our FIN follows.
            own.close_channel();
            return Ok(());
        }
        // The queue of a connection that has ended refuses data, and is removed.
        let take = |queue: &mut UnboundedSender<Vec<u8>>| {
            queue.unbounded_send(buffer[..length].to_vec()).is_ok()
        };
        QUEUES.with_borrow_mut(|queues| queues.retain_mut(take));
    }
}

/// Sends the queued data of all peers to this one, then FIN.
async fn deliver(
    mut send: WriteHalf,
    mut queue: UnboundedReceiver<Vec<u8>>,
) -> std::io::Result<()> {
    send.write_all(GREETING).await?;
    while let Some(bytes) = queue.next().await {
        send.write_all(&bytes).await?;
    }
    send.close().await
}
