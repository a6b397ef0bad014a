//! Lines on standard output and standard error.

use wit_bindgen::StreamWriter;

use crate::bindings::wasi::cli0_3_0::{stderr, stdout};
use crate::bindings::wit_stream;

/// Prints on standard output, and waits until the host has taken the text.
pub(crate) async fn print(text: String) {
    let (writer, reader) = wit_stream::new();
    let printed = stdout::write_via_stream(reader);
    write(writer, text).await;
    let _ = printed.await;
}

/// Prints on standard error, and waits until the host has taken the text.
pub(crate) async fn print_error(text: String) {
    let (writer, reader) = wit_stream::new();
    let printed = stderr::write_via_stream(reader);
    write(writer, text).await;
    let _ = printed.await;
}

/// Writes `text` and ends the stream. The text is lost if the host no longer reads.
async fn write(mut writer: StreamWriter<u8>, text: String) {
    writer.write_all(text.into_bytes()).await;
}
