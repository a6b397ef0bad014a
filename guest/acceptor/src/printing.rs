//! Lines on standard output and standard error.

use crate::bindings::wasi::cli::{stderr, stdout};
use crate::bindings::wit_stream;

/// Prints on standard output, and waits until it is printed.
pub(crate) async fn print(text: String) {
    let (mut writer, reader) = wit_stream::new();
    let printed = stdout::write_via_stream(reader);
    // What cannot be printed, because nobody reads any more, is lost.
    writer.write_all(text.into_bytes()).await;
    drop(writer);
    let _ = printed.await;
}

/// Prints on standard error, and waits until it is printed.
pub(crate) async fn print_error(text: String) {
    let (mut writer, reader) = wit_stream::new();
    let printed = stderr::write_via_stream(reader);
    // As above.
    writer.write_all(text.into_bytes()).await;
    drop(writer);
    let _ = printed.await;
}
