//! Docker nodes, each in namespaces of its own, on one bridge.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::eventually;

use crate::outside::group;

/// The clients' end of the bridge.
const BRIDGE: &str = "fleet0";
const BRIDGE_ADDRESS: &str = "10.77.0.1";

/// Runs in the node's namespaces, as the first process of its PID namespace: what it starts ends
/// with it. The network arrives after the first line, and the second line asks for the daemon.
const BEGIN: &str = r#"
set -e
hostname "$1"
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc/docker
echo ready
read -r go
shift
"$@" &
wait $!
"#;

/// A machine of the fleet.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    folder: PathBuf,
    /// `unshare`, whose child is the first process of the node. Both end together.
    process: Child,
}

/// Makes the bridge, in this process's own network.
pub(crate) fn bridge() -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&[
        "address",
        "add",
        &format!("{BRIDGE_ADDRESS}/24"),
        "dev",
        BRIDGE,
    ])?;
    ip(&["link", "set", BRIDGE, "up"])
}

impl Node {
    /// Starts a node, and waits until its daemon answers.
    pub(crate) fn start(fleet: &Path, number: u8) -> Result<Self> {
        let name = format!("n{number}");
        let folder = fleet.join(&name);
        std::fs::create_dir_all(&folder)?;
        let log = File::create(folder.join("dockerd.log"))?;
        let mut process = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"])
            .args(["sh", "-c", BEGIN, "sh", &name, "dockerd"])
            .arg("--data-root")
            .arg(folder.join("data"))
            .args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"])
            .arg("--host")
            .arg(format!("unix://{}", folder.join("docker.sock").display()))
            .arg(format!("--cgroup-parent=/{}", group(fleet)?))
            .args(["--userland-proxy=false", "--log-level=warn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start unshare")?;
        let mut ready = String::new();
        let stdout = process.stdout.take().context("stdout is piped")?;
        BufReader::new(stdout).read_line(&mut ready)?;
        let node = Node {
            address: format!("10.77.0.{}", 10 + number),
            name,
            folder,
            process,
        };
        ensure!(
            ready == "ready\n",
            "{} did not start: {}",
            node.name,
            node.log()
        );
        node.connect()?;
        let mut stdin = node.process.stdin.as_ref().context("stdin is piped")?;
        stdin.write_all(b"go\n")?;
        eventually(
            &format!("the daemon of {} answers: {}", node.name, node.log()),
            || Ok(node.command(["info"]).output()?.status.success()),
        )?;
        Ok(node)
    }

    /// Connects the node to the bridge.
    fn connect(&self) -> Result<()> {
        let process = self.process.id().to_string();
        let cable = self.cable();
        ip(&[
            "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &process,
        ])?;
        ip(&["link", "set", &cable, "master", BRIDGE, "up"])?;
        let address = format!("{}/24", self.address);
        for arguments in [
            &["address", "add", &address, "dev", "eth0"][..],
            &["link", "set", "lo", "up"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", BRIDGE_ADDRESS],
        ] {
            let mut inside = Command::new("nsenter");
            inside.args(["--target", &process, "--net", "ip"]);
            done(inside.args(arguments))?;
        }
        Ok(())
    }

    fn cable(&self) -> String {
        format!("to-{}", self.name)
    }

    /// Takes the node off the network: packets are lost, and nobody is told.
    pub(crate) fn part(&self) -> Result<()> {
        ip(&["link", "set", &self.cable(), "nomaster"])
    }

    /// Gives the network back.
    pub(crate) fn join(&self) -> Result<()> {
        ip(&["link", "set", &self.cable(), "master", BRIDGE])
    }

    /// Ends all processes of the node at once, as a machine ends that loses its power: none of what
    /// the kernel sends for an ended process leaves the node.
    pub(crate) fn die(&mut self) -> Result<()> {
        self.part()?;
        self.kill()
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// A command of the node's Docker.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut docker = Command::new("docker");
        docker
            .env("DOCKER_CONFIG", &self.folder)
            .arg("--host")
            .arg(format!(
                "unix://{}",
                self.folder.join("docker.sock").display()
            ))
            .args(arguments)
            .stdin(Stdio::null());
        docker
    }

    /// Runs a command of the node's Docker, and returns what it prints.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Result<String> {
        done(&mut self.command(arguments)).with_context(|| format!("on {}", self.name))
    }

    /// The folder of a container's first process in `/proc`.
    pub(crate) fn process(&self, container: &str) -> Result<PathBuf> {
        let process = self.docker(&["inspect", "--format", "{{.State.Pid}}", container])?;
        // The number is of the node's PID namespace, whose /proc is in its mounts.
        let node = self.process.id();
        Ok(format!("/proc/{node}/root/proc/{}", process.trim()).into())
    }

    /// The path, for this process, of an absolute path in a container.
    pub(crate) fn inside(&self, container: &str, path: &str) -> Result<PathBuf> {
        let root = self.process(container)?.join("root");
        Ok(root.join(path.trim_start_matches('/')))
    }

    /// The end of the daemon's log.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("dockerd.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails if the node has been killed.
        let _ = self.kill();
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    done(Command::new("ip").args(arguments)).map(drop)
}

/// Runs a command that must succeed, and returns what it prints.
pub(crate) fn done(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{command:?}: {status}: {}", said.trim());
    Ok(String::from_utf8(stdout)?)
}
