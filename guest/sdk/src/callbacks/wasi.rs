//! WASI 0.2, which components in callback style use.

use std::panic::PanicHookInfo;
use std::thread::LocalKey;

use crate::bindings::wasi_0_2::wasi::cli0_2_0::{stderr, stdout};
use crate::bindings::wasi_0_2::wasi::io::streams::OutputStream;
use crate::wasi::{Output, Wasi};

/// The functions of WASI 0.2.
pub(super) static WASI: Wasi = Wasi { print };

/// The most bytes that one call of `blocking-write-and-flush` takes.
const MOST: usize = 4096;

thread_local! {
    static OUT: OutputStream = stdout::get_stdout();
    static ERR: OutputStream = stderr::get_stderr();
}

fn print(output: Output, line: String) {
    let stream: &'static LocalKey<OutputStream> = match output {
        Output::Stdout => &OUT,
        Output::Stderr => &ERR,
    };
    stream.with(|stream| {
        for part in line.as_bytes().chunks(MOST) {
            // What the host does not take is lost: nobody could be told.
            if stream.blocking_write_and_flush(part).is_err() {
                return;
            }
        }
    });
}

/// Prints a panic, which ends the instance.
pub(super) fn panicked(info: &PanicHookInfo<'_>) {
    print(Output::Stderr, format!("{info}\n"));
}
