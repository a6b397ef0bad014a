//! The piece that turns a service into a command: it listens, accepts, and calls the
//! service for each connection.
//!
//! Composed with a service and the adapter into a plain WASI 0.3 command. A trap in the
//! service ends the command, because a component instance that has trapped cannot be
//! entered again; an error that the service returns ends its own connection only.

mod arguments;
mod listening;
mod places;
mod printing;

use std::net::SocketAddr;

use futures::future::join_all;
use halfopen_parts::types::TcpSocket;

use arguments::{Request, Settings};
use bindings::halfopen::tcp::{background, bridge, handler};
use bindings::wasi::cli0_3_0::environment::get_arguments;
use listening::Listener;
use places::Places;
use printing::{print, print_error};

#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "halfopen:tcp/acceptor",
        with: {
            "halfopen:tcp/types@0.1.0": ::halfopen_parts::types,
            "wasi:sockets/types@0.3.0": ::halfopen_parts::types,
        },
        generate_all,
    });
}

struct Acceptor;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Acceptor with_types_in bindings);
};

impl bindings::exports::wasi::cli0_3_0::run::Guest for Acceptor {
    async fn run() -> Result<(), ()> {
        let served = match arguments::parse(get_arguments().into_iter().skip(1)) {
            Ok(Request::Help) => {
                print(arguments::HELP.to_owned()).await;
                return Ok(());
            }
            Ok(Request::Serve(settings)) => serve(&settings).await,
            Err(mistake) => Err(mistake),
        };
        if let Err(message) = served {
            print_error(format!("error: {message}\n")).await;
            return Err(());
        }
        Ok(())
    }
}

/// Listens on all addresses, prints them, and serves their connections; returns only
/// when no listener can accept any more.
async fn serve(settings: &Settings) -> Result<(), String> {
    let mut listeners = Vec::new();
    let mut bound = String::new();
    for &address in &settings.listen {
        let listener = Listener::listen(address)?;
        bound += &format!("{}\n", listener.address()?);
        listeners.push(listener);
    }
    // The addresses come before anything that the service prints: a supervisor reads
    // them to learn where to connect.
    print(bound).await;
    if settings.keep_running {
        wit_bindgen::spawn_local(async {
            if let Err(message) = background::run().await {
                print_error(format!("the service failed: {}\n", message.trim_end())).await;
            }
        });
    }
    let places = Places::new(settings.max_connections);
    join_all(
        listeners
            .into_iter()
            .map(|listener| accept(listener, &places)),
    )
    .await;
    Err("no listener is left".to_owned())
}

/// Accepts connections while there are places; others wait in the backlog. Without that
/// bound, the host's limit on handles would end the program and all its connections.
async fn accept(mut listener: Listener, places: &Places) {
    loop {
        let place = places.take().await;
        let Some(socket) = listener.next().await else {
            break;
        };
        wit_bindgen::spawn_local(async {
            handle(socket).await;
            drop(place);
        });
    }
    print_error("error: a listener has failed, and accepts no more\n".to_owned()).await;
}

async fn handle(socket: TcpSocket) {
    // A connection that failed in the backlog arrives as a socket without a peer.
    let Ok(peer) = socket.get_remote_address() else {
        return;
    };
    if let Err(message) = handler::handle(bridge::wrap(socket)).await {
        let peer = SocketAddr::from(peer);
        print_error(format!(
            "the service failed: {} peer={peer}\n",
            message.trim_end()
        ))
        .await;
    }
}
