//! The native servers that halfopen is compared with: echoes in Rust, without WebAssembly.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use anyhow::Result;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The size of a read, the same as halfopen's and Node's.
const BUFFER: usize = 64 * 1024;

/// Serves with a task for each connection, on all processors.
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
                // Fails if the peer has reset the connection.
                let _ = stream.shutdown().await;
            });
        }
    })
}

/// Listens on a free port, with the backlog of halfopen and Node, and prints the address.
fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 511)?;
    #[allow(clippy::print_stdout, reason = "the first line is the address")]
    {
        println!("{}", listener.local_addr()?);
    }
    Ok(listener)
}

/// Serves with one thread, one buffer and epoll: little more than the system's own work.
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
                // Closing a descriptor removes it from the epoll set.
                connections.remove(&fd);
            }
        }
    }
}

struct Echo {
    stream: TcpStream,
    /// The bytes that the kernel has not taken yet.
    pending: Vec<u8>,
}

impl Echo {
    fn new(stream: TcpStream) -> Self {
        Echo {
            stream,
            pending: Vec::new(),
        }
    }

    /// Reads and writes until the socket blocks. Returns false once the connection is over.
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
                    // Fails if the peer has reset the connection.
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
