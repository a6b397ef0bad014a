//! A proxy: forwards each connection to another server. It passes on data, FIN and reset in
//! both directions.
//!
//! Its argument is the address of that server, which the host has to grant:
//!
//! ```console
//! $ halfopen serve guest/dist/proxy.wasm --allow-connect 127.0.0.1:1234 --listen 127.0.0.1:4321 -- 127.0.0.1:1234
//! ```
//!
//! The bytes do not pass through the component: the host moves them.

use std::net::SocketAddr;

use halfopen_guest::{Connection, env, log_error, service, splice};

service!(handle);

async fn handle(client: Connection) -> Result<(), String> {
    let upstream = upstream(&env::args())?;
    match Connection::connect(upstream).await {
        Ok(server) => splice(client, server)
            .await
            .map_err(|error| format!("forwarding to {upstream}: {error}")),
        Err(error) => {
            // The client sees FIN without any data before it.
            log_error!("cannot connect to {upstream}: {error}");
            Ok(())
        }
    }
}

fn upstream(arguments: &[String]) -> Result<SocketAddr, String> {
    let usage = "give the address of the server to forward to, such as 127.0.0.1:1234";
    match arguments {
        [address] => address
            .parse()
            .map_err(|_| format!("bad address `{address}`; {usage}")),
        _ => Err(format!("{} arguments; {usage}", arguments.len())),
    }
}
