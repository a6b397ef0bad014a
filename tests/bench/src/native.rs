//! The servers that halfopen is compared with: echoes in Rust without WebAssembly.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use anyhow::Result;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// As large as halfopen's and Node's reads.
const BUFFER: usize = 64 * 1024;

/// A task per connection on all processors.
pub(crate) fn tokio_echo() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = listen()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut buffer = vec![0; BUFFER];
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) => break,
                        Ok(length) => {
                            if stream.write_all(&buffer[..length]).await.is_err() {
                                return;
                            }
                        }
                        Err(_) => return,
                    }
                }
                // The peer may have gone.
                let _ = stream.shutdown().await;
            });
        }
    })
}

/// With the backlog of halfopen and of Node.
fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 511)?;
    #[allow(
        clippy::print_stdout,
        reason = "the one line that says where it listens"
    )]
    {
        println!("{}", listener.local_addr()?);
    }
    Ok(listener)
}

/// One thread and one buffer: what the system takes for itself.
pub(crate) fn epoll_echo() -> Result<()> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let watch = |source: BorrowedFd<'_>, flags| {
        let data = epoll::EventData::new_u64(source.as_raw_fd() as u64);
        epoll::add(&poll, source, data, flags)
    };
    watch(listener.as_fd(), epoll::EventFlags::IN)?;
    let mut connections: HashMap<RawFd, Echo> = HashMap::new();
    let mut buffer = vec![0; BUFFER];
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let fd = event.data.u64() as RawFd;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let flags =
                        epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                    watch(stream.as_fd(), flags)?;
                    connections.insert(stream.as_raw_fd(), Echo::new(stream));
                }
            } else if let Some(echo) = connections.get_mut(&fd)
                && !echo.go_on(&mut buffer)
            {
                // Closing takes it out of the set.
                connections.remove(&fd);
            }
        }
    }
}

struct Echo {
    stream: TcpStream,
    /// What the system has not taken yet.
    pending: Vec<u8>,
}

impl Echo {
    fn new(stream: TcpStream) -> Self {
        Echo {
            stream,
            pending: Vec::new(),
        }
    }

    /// Does what can be done; false when the connection is over.
    fn go_on(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            while !self.pending.is_empty() {
                match self.stream.write(&self.pending) {
                    Ok(written) => drop(self.pending.drain(..written)),
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
            match self.stream.read(buffer) {
                Ok(0) => {
                    // The peer may have gone.
                    let _ = self.stream.shutdown(Shutdown::Write);
                    return false;
                }
                Ok(length) => match self.stream.write(&buffer[..length]) {
                    Ok(written) => self.pending.extend(&buffer[written..length]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.pending.extend(&buffer[..length]);
                    }
                    Err(_) => return false,
                },
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}
