//! Redis and PostgreSQL as tests start them: each with data of its own, on loopback.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::patience::eventually;
use crate::port::Port;
use crate::tls::Authority;
use crate::tools::{is_missing, skipped};

/// The user that PostgreSQL runs as where the tests are root's: it refuses to be root.
const NOBODY: u32 = 65534;

/// A database server. It is stopped on drop.
#[derive(Debug)]
pub struct Database {
    child: Child,
    /// The address that it listens on.
    pub address: SocketAddr,
    _port: Port,
    _folder: TempDir,
}

impl Database {
    /// Starts PostgreSQL, with the user `postgres` and no password; `None` if it is not
    /// installed. With a certificate, it has TLS.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn postgres(what: &str, certificate: Option<(&Authority, &str)>) -> Result<Option<Self>> {
        let Some(programs) = postgres_programs() else {
            skipped(what, "`postgresql`")?;
            return Ok(None);
        };
        if is_missing("psql", what)? {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        own(folder.path())?;
        let data = folder.path().join("data");
        let mut make = unprivileged(&programs.join("initdb"));
        make.arg("-D").arg(&data);
        make.args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        let made = make.output()?;
        ensure!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = Port::reserve()?;
        let address = port.address()?;
        let mut server = unprivileged(&programs.join("postgres"));
        server
            .arg("-D")
            .arg(&data)
            .args(["-p", &address.port().to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
        ] {
            server.args(["-c", setting]);
        }
        if let Some((authority, file)) = certificate {
            server.args(["-c", "ssl=on"]);
            for (setting, kind) in [("ssl_cert_file", "pem"), ("ssl_key_file", "key")] {
                let copy = folder.path().join(kind);
                fs::copy(authority.path(&format!("{file}.{kind}")), &copy)?;
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
                own(&copy)?;
                server.args(["-c", &format!("{setting}={}", copy.display())]);
            }
        }
        Database::start(server, port, folder).map(Some)
    }

    fn start(mut server: Command, port: Port, folder: TempDir) -> Result<Self> {
        let address = port.address()?;
        let child = server
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut database = Database {
            child: child.with_context(|| format!("cannot start {server:?}"))?,
            address,
            _port: port,
            _folder: folder,
        };
        eventually("the database listens", || {
            ensure!(database.child.try_wait()?.is_none(), "{server:?} has ended");
            Ok(TcpStream::connect(address).is_ok())
        })?;
        Ok(database)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // PostgreSQL ends its processes at SIGQUIT, at once.
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

/// The folder with the programs of PostgreSQL, as Debian installs them.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.flatten().map(|version| version.path().join("bin"));
    folders
        .filter(|folder| folder.join("initdb").exists())
        .max()
}

/// A program that does not run as root.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    command
}

/// Gives a file to the user of [`unprivileged`].
fn own(path: &Path) -> Result<()> {
    match getuid().is_root() {
        true => Ok(chown(path, Some(NOBODY), Some(NOBODY))?),
        false => Ok(()),
    }
}
