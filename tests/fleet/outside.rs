//! Makes the namespaces in which the fleet lives, and removes what outlives them.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{self, Command};

use anyhow::{Context, Result, ensure};
use halfopen_tests::tools::is_missing;

use crate::Security;

/// Set in the process inside the namespaces: the folder of the fleet.
pub(crate) const FOLDER: &str = "HALFOPEN_FLEET_FOLDER";

/// The folder of the machine that every daemon hides behind one of its own.
const ETC_DOCKER: &str = "/etc/docker";

/// Runs this program again, in namespaces of its own. Its process is the first one of a PID
/// namespace: when it ends, however it does, the kernel ends the daemons and containers with it.
pub(crate) fn run(security: Security) -> Result<()> {
    const WHAT: &str = "a fleet of three Docker nodes";
    for tool in [
        "dockerd", "docker", "ip", "iptables", "unshare", "nsenter", "haproxy", "tar",
    ] {
        if is_missing(tool, WHAT)? {
            return Ok(());
        }
    }
    if !rustix::process::geteuid().is_root() {
        // Cannot be installed, so CI may lack it as well.
        eprintln!("!!! SKIPPED: {WHAT}: it needs root");
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("fleet").tempdir()?;
    let made = !Path::new(ETC_DOCKER).exists();
    fs::create_dir_all(ETC_DOCKER)?;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"])
        .arg(env::current_exe()?)
        .args(["--exact", security.name(), "--nocapture"])
        .env(FOLDER, folder.path())
        .env("TMPDIR", folder.path())
        .status();
    if made {
        // It stays if somebody else has put something there meanwhile.
        let _ = fs::remove_dir(ETC_DOCKER);
    }
    let removed = remove_groups(&group(folder.path())?);
    ensure!(status?.success(), "the fleet failed; see above");
    removed
}

/// The control group below which all containers of the fleet are.
pub(crate) fn group(folder: &Path) -> Result<String> {
    let name = folder.file_name().context("the folder has a name")?;
    Ok(format!("halfopen-{}", name.to_string_lossy()))
}

/// Removes the control groups that the containers leave behind, in each hierarchy.
fn remove_groups(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let mut tops = vec![root.join(name)];
    for hierarchy in fs::read_dir(root)? {
        tops.push(hierarchy?.path().join(name));
    }
    for top in tops.iter().filter(|top| top.is_dir()) {
        remove_group(top)
            .with_context(|| format!("process {}: {}", process::id(), top.display()))?;
    }
    Ok(())
}

/// Removes a control group, after those in it. Their files go with them.
fn remove_group(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    // The kernel has ended the processes, and may not have buried all of them yet.
    halfopen_tests::patience::eventually("the control group is empty", || {
        Ok(fs::remove_dir(group).is_ok())
    })
}
