//! The proxy in callback style of the SDK's cookbook.

use halfopen_guest::{Error, Events, Socket, callbacks, env, log, log_error};

callbacks!(Client::new);

struct Client;

impl Client {
    fn new(client: &Socket) -> Self {
        if let Err(error) = forward(client) {
            log_error!("cannot forward: {error}");
            client.reset();
        }
        Client
    }
}

impl Events for Client {}

fn forward(client: &Socket) -> Result<(), Box<dyn std::error::Error>> {
    let upstream = env::args().pop().ok_or("give the address of the server")?;
    let server = callbacks::connect(upstream.parse()?, |_socket| Server)?;
    // The host moves the bytes: FIN becomes FIN, and a failure of one a reset of the other.
    callbacks::pipe(client, &server)?;
    callbacks::pipe(&server, client)?;
    Ok(())
}

struct Server;

impl Events for Server {
    fn connect(&mut self, _: &Socket) {
        log!("connected");
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        log_error!("the server: {error}");
    }
}
