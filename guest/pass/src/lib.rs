//! The shortest echo: the receiving direction is handed over as the sending one, and the
//! host moves the bytes. They never come into the component, and the peer's FIN is passed
//! back as ours.

use halfopen_guest::{Connection, Error, service};

service!(handle);

async fn handle(connection: Connection) -> Result<(), Error> {
    connection.echo().await
}
