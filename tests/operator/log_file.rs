//! The log in a file, `--log-file`, and its rotation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::{PATIENCE_SECONDS, eventually};
use halfopen_tests::runner::{guest_path, root};
use halfopen_tests::server::{Server, command, run};
use halfopen_tests::tools::is_missing;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use super::host::{BINARIES, echo, folder, is_served, metric, serve, served, with_admin};
use super::successor::Successor;

/// A server with an access log in a file.
struct Logged {
    server: Server,
    folder: TempDir,
    path: PathBuf,
}

impl Logged {
    fn start(flags: &[&str]) -> Result<Self> {
        let folder = folder()?;
        let path = folder.path().join("halfopen.log");
        let text = path.to_str().context("not UTF-8")?;
        let server = echo(&[&["--access-log", "--log-file", text], flags].concat())?;
        Ok(Logged {
            server,
            path,
            folder,
        })
    }

    /// Serves a connection, and waits until a file has as many lines of the access log.
    fn serves(&self, file: &Path, lines: usize) -> Result<()> {
        drop(served(&self.server)?);
        eventually("the line is in the file", || {
            let logged = fs::read_to_string(file).unwrap_or_default();
            Ok(logged.matches("ending=fin").count() == lines)
        })
    }

    /// Asks for the file to be opened anew, and waits until it is there.
    fn reopens(&self) -> Result<()> {
        self.server.signal(Signal::USR1)?;
        eventually("the file is there again", || Ok(self.path.exists()))
    }
}

#[test]
fn a_file_that_was_renamed_is_opened_anew_and_loses_nothing() -> Result<()> {
    let logged = Logged::start(&[])?;
    let old = logged.folder.path().join("halfopen.log.1");
    logged.serves(&logged.path, 1)?;
    let mode = fs::metadata(&logged.path)?.permissions().mode();
    ensure!(mode & 0o137 == 0, "{mode:o}");
    fs::rename(&logged.path, &old)?;
    logged.serves(&old, 2)?;
    logged.reopens()?;
    logged.serves(&logged.path, 1)?;
    // As `copytruncate` does.
    fs::File::create(&logged.path)?;
    logged.serves(&logged.path, 1)?;
    // Messages to the operator are in the file as well, and standard error has nothing.
    let stopped = logged.server.stop(Signal::TERM)?;
    ensure!(stopped.status.success(), "{stopped:?}");
    ensure!(stopped.stderr.is_empty(), "{:?}", stopped.stderr);
    let text = fs::read_to_string(&logged.path)?;
    ensure!(text.contains("\nhalfopen: stopping; "), "{text}");
    ensure!(!text.contains('\u{1b}') && !text.contains('\0'), "{text:?}");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_the_start_and_none_later() -> Result<()> {
    let mut without_folder = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    without_folder.args(["--log-file", "/missing/halfopen.log"]);
    let stopped = run(without_folder)?;
    ensure!(stopped.status.code() == Some(1), "{stopped:?}");
    let [error] = &stopped.stderr[..] else {
        anyhow::bail!("{stopped:?}");
    };
    ensure!(
        error.starts_with("error: cannot open the log file /missing/halfopen.log")
            && error.contains("in a folder that exists"),
        "{error}"
    );
    let logged = Logged::start(&[])?;
    logged.serves(&logged.path, 1)?;
    let old = logged.folder.path().join("old");
    fs::rename(&logged.path, &old)?;
    fs::create_dir(&logged.path)?;
    logged.server.signal(Signal::USR1)?;
    logged
        .server
        .logged("the log goes on in the one that was open")?;
    logged.serves(&old, 2)?;
    fs::remove_dir(&logged.path)?;
    logged.reopens()?;
    logged.serves(&logged.path, 1)
}

#[test]
fn a_check_warns_of_a_folder_that_is_missing() -> Result<()> {
    let folder = folder()?;
    let config = folder.path().join("halfopen.toml");
    fs::write(&config, "\nlog-file = \"logs/a.log\"\n[services.echo]\n")?;
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(&config);
    let checked = run(check)?;
    ensure!(checked.status.success(), "{checked:?}");
    let warned = checked.stderr.join("\n");
    ensure!(
        warned.contains("halfopen.toml:2: warning: the folder of the log file, "),
        "{warned}"
    );
    Ok(())
}

/// Every write to `/dev/full` fails as on a full disk.
#[test]
fn a_full_disk_never_holds_up_the_server() -> Result<()> {
    let flags = ["--access-log", "--log-file", "/dev/full"];
    let (server, admin) = with_full_disk(&flags)?;
    let mut open = served(&server)?;
    for _ in 0..20 {
        Client::connect(server.address())?.exchange(1000, 1)?;
    }
    is_served(&mut open)?;
    eventually("the lines are counted", || {
        Ok(metric(&admin, "halfopen_log_lines_dropped_total")? >= 20.0)
    })
}

/// No line says where the admin address is, so it is this test's own.
fn with_full_disk(flags: &[&str]) -> Result<(Server, String)> {
    let [.., high, low] = std::process::id().to_be_bytes();
    let admin = format!("127.63.{high}.{low}:4998");
    let server = echo(&[&["--admin", &admin], flags].concat())?;
    Ok((server, admin))
}

#[test]
fn without_a_file_the_signal_says_so() -> Result<()> {
    let (server, _) = with_admin("echo", &[], &["--quiet"])?;
    server.signal(Signal::USR1)?;
    server.logged("SIGUSR1 opens the file of the log anew, and there is none")?;
    drop(served(&server)?);
    Ok(())
}

/// As JSON each line of the file is an object, and what services print stays where they print it.
#[test]
fn what_services_print_is_not_in_the_file() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("log");
    let text = path.to_str().context("not UTF-8")?;
    let flags = ["--log-format", "json", "--log-file", text, "--access-log"];
    let server = serve("echo", &flags, &[])?;
    drop(served(&server)?);
    eventually("the connection is logged", || {
        Ok(fs::read_to_string(&path)?.contains("\"ending\":\"fin\""))
    })?;
    let stopped = server.stop(Signal::TERM)?;
    ensure!(
        stopped.stdout.iter().any(|line| line == "EOF."),
        "{stopped:?}"
    );
    let log = fs::read_to_string(&path)?;
    for line in log.lines() {
        serde_json::from_str::<Value>(line).with_context(|| line.to_owned())?;
    }
    ensure!(!log.contains("EOF."), "{log}");
    Ok(())
}

/// A successor opens the file itself, and the signal reaches the process that still drains.
#[test]
fn all_processes_of_an_upgrade_open_the_file_anew() -> Result<()> {
    let logged = Logged::start(&["--upgrade-timeout", PATIENCE_SECONDS])?;
    let mut open = served(&logged.server)?;
    logged.server.signal(Signal::USR2)?;
    let mut newest = None;
    eventually("the upgrade is done", || {
        let log = fs::read_to_string(&logged.path)?;
        newest = log.lines().find_map(|line| {
            let (_, rest) = line.split_once("upgraded; process ")?;
            Pid::from_raw(rest.split(' ').next()?.parse().ok()?)
        });
        Ok(newest.is_some())
    })?;
    let newest = Successor::of(newest.context("no process")?);
    let old = logged.folder.path().join("old");
    fs::rename(&logged.path, &old)?;
    newest.signal(Signal::USR1)?;
    eventually("no process has the renamed file open", || {
        let newest = newest.process().as_raw_pid().cast_unsigned();
        let processes = [logged.server.id(), newest];
        Ok(processes.iter().all(|process| !has_open(*process, &old)))
    })?;
    is_served(&mut open)?;
    drop(open);
    eventually("the process that drained has logged the end", || {
        Ok(fs::read_to_string(&logged.path)?.contains("ending=fin"))
    })?;
    drop(served(&logged.server)?);
    newest.stop()?;
    eventually("the successor has logged as well", || {
        let log = fs::read_to_string(&logged.path)?;
        Ok(log.matches("ending=fin").count() == 2)
    })
}

fn has_open(process: u32, file: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{process}/fd"));
    let mut open = open.into_iter().flatten().flatten();
    open.any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == *file))
}

/// The file that packages ship for logrotate, on a folder of the test.
#[test]
fn logrotate_rotates_by_the_packaged_file() -> Result<()> {
    if is_missing("logrotate", "rotation by the packaged file")? {
        return Ok(());
    }
    let logged = Logged::start(&[])?;
    logged.serves(&logged.path, 1)?;
    let packaged = fs::read_to_string(root().join("host/packaging/halfopen.logrotate"))?;
    let signal = "systemctl kill --signal=USR1 halfopen.service";
    ensure!(packaged.contains(signal), "{packaged}");
    let rotation = packaged
        .replace(signal, &format!("kill -USR1 {}", logged.server.id()))
        .replace(
            "/var/log/halfopen",
            logged.folder.path().to_str().context("not UTF-8")?,
        );
    let (file, state) = (
        logged.folder.path().join("rotation"),
        logged.folder.path().join("state"),
    );
    fs::write(&file, rotation)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let mut rotate = Command::new("logrotate");
    rotate.arg("--force").arg("--state").args([&state, &file]);
    let done = rotate.output()?;
    ensure!(done.status.success(), "{done:?}");
    eventually("the file is there again", || Ok(logged.path.exists()))?;
    logged.serves(&logged.path, 1)?;
    let old = fs::read_to_string(logged.folder.path().join("halfopen.log.1"))?;
    ensure!(old.matches("ending=fin").count() == 1, "{old}");
    Ok(())
}

/// A key of the configuration, whose path begins at the file's folder.
#[test]
fn the_configuration_names_the_file() -> Result<()> {
    let folder = folder()?;
    let config = folder.path().join("halfopen.toml");
    let component = guest_path("echo");
    let text = format!(
        "log-file = \"echo.log\"\naccess-log = true\n[services.echo]\ncomponent = {component:?}\n\
         listen = [\"127.0.0.1:0\"]\n"
    );
    fs::write(&config, &text)?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&config);
    let server = Server::start(serve, 1)?;
    drop(served(&server)?);
    let log = folder.path().join("echo.log");
    eventually("the connection is logged", || {
        Ok(fs::read_to_string(&log)?.contains("ending=fin"))
    })?;
    // A reload does not change it, and says so.
    fs::write(&config, text.replace("echo.log", "other.log"))?;
    server.signal(Signal::HUP)?;
    eventually("the change is named", || {
        Ok(fs::read_to_string(&log)?.contains("`log-file` changed"))
    })
}
