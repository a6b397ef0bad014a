//! Files that change while a server uses them, and files that commands write.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use anyhow::{Result, ensure};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};
use rustix::process::Signal;

use super::host::{BINARIES, folder, is_served, make, served};

#[test]
fn precompiled_code_that_is_served_may_be_written_over_and_truncated() -> Result<()> {
    let folder = folder()?;
    let code = folder.path().join("service.cwasm");
    make("compile", &guest_path("echo"), &code)?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--allow-precompiled"]);
    serve.args(["--listen", "127.0.0.1:0"]).arg(&code);
    serve.args(["--", "--quiet"]);
    let server = Server::start(serve, 1)?;
    let mut old = served(&server)?;

    make("compile", &guest_path("digest"), &code)?;
    is_served(&mut old)?;
    served(&server)?;
    // As `cp` and `scp` do, which write to the file that is there.
    fs::copy(guest_path("digest"), &code)?;
    is_served(&mut old)?;
    served(&server)?;
    OpenOptions::new().write(true).open(&code)?.set_len(0)?;
    is_served(&mut old)?;
    served(&server)?;
    let stopped = server.stop(Signal::TERM)?;
    ensure!(stopped.status.success(), "{stopped:?}");
    Ok(())
}

/// The limit on the size of files ends the command by SIGXFSZ in the middle of its output,
/// setrlimit(2).
#[test]
fn a_command_that_is_killed_while_it_writes_leaves_the_old_file() -> Result<()> {
    let folder = folder()?;
    let output = folder.path().join("output");
    for subcommand in ["compile", "compose"] {
        fs::write(&output, "old")?;
        let script = r#"ulimit -c 0; ulimit -f 16; exec "$@""#;
        let mut limited = command("sh", ["-c", script, "sh"]);
        limited.arg(&BINARIES.halfopen).arg(subcommand);
        limited.arg(guest_path("echo")).arg("-o").arg(&output);
        let killed = run(limited)?;
        ensure!(
            killed.status.signal() == Some(Signal::XFSZ.as_raw()),
            "{killed:?}"
        );
        ensure!(fs::read(&output)? == b"old", "the old file is lost");
    }
    Ok(())
}

#[test]
fn manual_pages_replace_those_that_are_there() -> Result<()> {
    let folder = folder()?;
    let page = folder.path().join("halfopen.1");
    fs::write(&page, "old")?;
    let mut open = fs::File::open(&page)?;
    let mut generate = command(&BINARIES.halfopen, ["generate", "man"]);
    generate.arg(folder.path());
    let generated = run(generate)?;
    ensure!(generated.status.success(), "{generated:?}");
    ensure!(fs::read_to_string(&page)?.contains("SYNOPSIS"));
    ensure!(
        io::read_to_string(&mut open)? == "old",
        "the page was written over"
    );
    ensure!(folder.path().join("halfopen-serve.1").exists());
    Ok(())
}

/// Whoever can write to the cache can have any code run.
#[test]
fn a_cache_that_others_can_write_to_is_not_used() -> Result<()> {
    let folder = folder()?;
    let cache = folder.path().join("wasmtime");
    fs::create_dir(&cache)?;
    fs::write(cache.join("made-by"), "anybody")?;
    let starts = || {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.arg(guest_path("echo")).args(["--", "--quiet"]);
        serve.env("XDG_CACHE_HOME", folder.path());
        let server = Server::start(serve, 1)?;
        served(&server)?;
        server.stop(Signal::TERM)
    };
    fs::set_permissions(&cache, Permissions::from_mode(0o777))?;
    let warned = starts()?.stderr;
    let why = format!("other users can write to `{}`", cache.display());
    let lines = warned.iter().filter(|line| line.contains(&why)).count();
    ensure!(lines == 1, "{warned:?}");
    ensure!(!cache.join("modules").exists(), "code is kept there");

    fs::set_permissions(&cache, Permissions::from_mode(0o755))?;
    let warned = starts()?.stderr;
    ensure!(
        !warned.iter().any(|line| line.contains("compiled code")),
        "{warned:?}"
    );
    ensure!(cache.join("modules").exists(), "code is not kept");
    Ok(())
}
