//! The `halfopen` command.

use std::process::ExitCode;

/// Making an instance takes dozens of small allocations, which mimalloc serves from memory
/// that an earlier instance freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Linux would back mimalloc's arena with huge pages: 12 MiB more resident memory, and
    // no gain in speed. A kernel without transparent huge pages returns an error, which
    // does not matter.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    halfopen_cli::main()
}
