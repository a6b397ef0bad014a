//! An echo with a fault, which the kit must find: `wrong-echo FAULT`.

#![allow(clippy::print_stdout, reason = "it prints its address")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// What the echo does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing: it is right.
    None,
    /// It sends FIN at once, before it has received anything.
    EarlyFin,
    /// It closes on the peer's FIN with data unsent.
    LosesTheRest,
    /// It answers FIN with RST.
    Reset,
    /// It swaps the bytes of each pair.
    Swaps,
    /// It ends with the first connection that fails.
    Dies,
}

fn main() -> io::Result<()> {
    let fault = match std::env::args().nth(1).as_deref() {
        Some("none") => Fault::None,
        Some("early-fin") => Fault::EarlyFin,
        Some("loses-the-rest") => Fault::LosesTheRest,
        Some("reset") => Fault::Reset,
        Some("swaps") => Fault::Swaps,
        Some("dies") => Fault::Dies,
        _ => return Err(io::Error::other("give the name of a fault")),
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if serve(stream, fault).is_err() && fault == Fault::Dies {
                std::process::exit(1);
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream, fault: Fault) -> io::Result<()> {
    if fault == Fault::EarlyFin {
        stream.shutdown(Shutdown::Write)?;
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    loop {
        let length = stream.read(&mut buffer)?;
        received += length;
        if length == 0 {
            break;
        }
        let chunk = &mut buffer[..length];
        if fault == Fault::Swaps {
            chunk.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        }
        if fault == Fault::LosesTheRest && received > 1_000_000 {
            break;
        }
        stream.write_all(chunk)?;
    }
    if fault == Fault::Reset {
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
    }
    Ok(())
}
