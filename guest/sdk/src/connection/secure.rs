//! TLS that a program begins on a connection in use, in await style.

use futures::io::AsyncWriteExt;
use wit_bindgen::FutureReader;

use super::{Tls, WriteHalf};
use crate::bindings::imports::halfopen::tcp::connections::Connection;
use crate::bindings::imports::halfopen::tcp::secure;
use crate::{Error, ErrorCode};

impl WriteHalf {
    /// Begins TLS as the server (STARTTLS), with the certificates that the host holds for that,
    /// and waits for the handshake. What is written before is sent first, in the clear. From then
    /// on both halves of the connection carry what is within TLS.
    ///
    /// The program has to have read up to the request for TLS, and no further. If more has been
    /// received, the connection is reset, because anyone on the path can have put that there
    /// (CVE-2011-0411).
    ///
    /// ```no_run
    /// use halfopen_guest::Connection;
    /// use halfopen_guest::futures::AsyncWriteExt;
    ///
    /// async fn handle(connection: Connection) -> std::io::Result<()> {
    ///     let (receive, mut send) = connection.split();
    ///     let mut lines = receive.lines();
    ///     while let Some(line) = lines.next_bytes().await {
    ///         if line? == b"STARTTLS" {
    ///             send.write_all(b"220 go ahead\r\n").await?;
    ///             send.secure_as_server().await?;
    ///         }
    ///     }
    ///     send.close().await
    /// }
    /// ```
    ///
    /// # Errors
    /// The connection goes on as it is: `access-denied` if the host has no certificate for this;
    /// `invalid-state` if a direction has ended, or TLS has begun already; `not-supported`. The
    /// connection has failed: `other` for a handshake that has failed and for data in the clear;
    /// `timeout`; and the errors of reading and writing.
    pub async fn secure_as_server(&mut self) -> Result<(), Error> {
        self.secure(secure::as_server).await
    }

    /// Begins TLS as the client, and waits for the handshake. The peer needs a certificate for
    /// `server_name`, a DNS name or an IP address, of an authority that the host trusts.
    /// `application_protocols` are offered to it (ALPN), the preferred one first.
    ///
    /// Otherwise it is like [`secure_as_server`](Self::secure_as_server).
    ///
    /// # Errors
    /// Those of [`secure_as_server`](Self::secure_as_server), and `invalid-argument` for a name
    /// or protocol that is none.
    pub async fn secure_as_client(
        &mut self,
        server_name: &str,
        application_protocols: &[&str],
    ) -> Result<(), Error> {
        let protocols: Vec<String> = application_protocols
            .iter()
            .map(|&name| name.to_owned())
            .collect();
        self.secure(|connection, processed| {
            secure::as_client(connection, server_name, &protocols, processed)
        })
        .await
    }

    /// Returns the peer's TLS session, if the host knows of one.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.core().tls()
    }

    async fn secure(
        &mut self,
        begin: impl FnOnce(&Connection, u64) -> Result<FutureReader<Result<(), ErrorCode>>, ErrorCode>,
    ) -> Result<(), Error> {
        self.flush().await.map_err(|_| self.error())?;
        let processed = self.core().processed().get();
        let done = self
            .core()
            .with_handle(|connection| begin(connection, processed))?;
        match done.await {
            Ok(()) => Ok(()),
            Err(code) => Err(code.into()),
        }
    }

    /// The error of the connection, after a flush has failed.
    fn error(&self) -> Error {
        let error = self.core().look(|machine| machine.error().cloned());
        error.unwrap_or_else(|| ErrorCode::InvalidState.into())
    }
}
