//! Sends each peer one line about itself: its address, and its TLS session if the host
//! knows of one.

use std::fmt::Write as _;

use halfopen_guest::futures::AsyncWriteExt;
use halfopen_guest::{Connection, Tls, service};

service!(handle);

async fn handle(connection: Connection) -> std::io::Result<()> {
    let mut line = connection.peer_addr()?.to_string();
    if let Some(tls) = connection.tls() {
        line += &describe(&tls);
    }
    line.push('\n');
    let (_receive, mut send) = connection.split();
    send.write_all(line.as_bytes()).await?;
    send.close().await
}

fn describe(tls: &Tls) -> String {
    let mut text = format!(
        " {} ends at the {}",
        tls.version.as_deref().unwrap_or("TLS"),
        if tls.ends_here { "host" } else { "balancer" }
    );
    let protocol = tls.application_protocol.as_deref();
    for (name, value) in [
        ("server", tls.server_name.clone()),
        (
            "protocol",
            protocol.map(|bytes| bytes.escape_ascii().to_string()),
        ),
        ("name", tls.common_name.clone()),
    ] {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = write!(text, ", {name} {value}");
        }
    }
    if !tls.certificates.is_empty() {
        let _ = write!(text, ", certificates {}", tls.certificates.len());
    }
    text
}
