//! The shortest echo: the receiving direction becomes the source of the sending one, and
//! the host moves the bytes. They never enter the component, and our FIN follows the
//! peer's.

use halfopen_guest::{Connection, Error, service};

service!(handle);

async fn handle(connection: Connection) -> Result<(), Error> {
    connection.echo().await
}
