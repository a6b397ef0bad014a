//! Starts the service for a test. HALFOPEN names the command, if it is not on the path.

use std::io::{BufRead, BufReader, Lines};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running service, and the lines that it prints.
pub struct Service {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Service {
    pub fn start() -> Self {
        let command = std::env::var("HALFOPEN").unwrap_or("halfopen".to_owned());
        let mut process = Command::new(command)
            .args(["serve", "target/wasm32-wasip2/release/service.wasm"])
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("`halfopen` is on the path");
        let stdout = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.next().expect("the server starts").expect("UTF-8");
        Service {
            process,
            lines,
            address,
        }
    }

    /// The next line that is printed.
    pub fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("UTF-8")
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).expect("the service listens")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
