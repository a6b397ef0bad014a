//! The arguments.

use std::net::SocketAddr;

use halfopen_guest::env;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Redis,
    Postgres,
}

pub(crate) struct Options {
    pub(crate) protocol: Protocol,
    pub(crate) server: SocketAddr,
    /// The name in the server's certificate, if the server has TLS.
    pub(crate) server_name: Option<String>,
    /// Whether a client of PostgreSQL gets TLS when it asks for it.
    pub(crate) tls: bool,
    /// What is refused, in capitals.
    pub(crate) refused: Vec<String>,
}

impl Options {
    pub(crate) fn read() -> Result<Self, String> {
        const USAGE: &str = "the arguments are `redis` or `postgres`, the server's address, and the commands to refuse";
        let mut args = env::args().into_iter();
        let protocol = match args.next().as_deref() {
            Some("redis") => Protocol::Redis,
            Some("postgres") => Protocol::Postgres,
            _ => return Err(USAGE.to_owned()),
        };
        let server = args.next().ok_or(USAGE)?;
        let mut options = Options {
            protocol,
            server: server
                .parse()
                .map_err(|_| format!("`{server}` is no address; {USAGE}"))?,
            server_name: None,
            tls: false,
            refused: Vec::new(),
        };
        while let Some(arg) = args.next() {
            match &*arg {
                "--tls" => options.tls = true,
                "--server-name" => {
                    let name = args
                        .next()
                        .ok_or("`--server-name` needs the server's name")?;
                    options.server_name = Some(name);
                }
                word => options.refused.push(word.to_ascii_uppercase()),
            }
        }
        Ok(options)
    }

    /// Whether a command is refused.
    pub(crate) fn refuses(&self, word: &[u8]) -> bool {
        self.refused
            .iter()
            .any(|refused| word.eq_ignore_ascii_case(refused.as_bytes()))
    }
}
