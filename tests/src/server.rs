//! A server under test, in a process of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::patience::{POLL, eventually, patience};

/// A server process. It is killed on drop.
#[derive(Debug)]
pub struct Server {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// The addresses that the server listens on, from its first lines.
    pub addresses: Vec<SocketAddr>,
    /// The longest wait for a printed line. (default: [`patience`])
    pub patience: Duration,
}

/// The outcome of a server process that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// The exit status.
    pub status: ExitStatus,
    /// The lines on standard output, after the addresses.
    pub stdout: Vec<String>,
    /// The lines on standard error.
    pub stderr: Vec<String>,
}

impl Server {
    /// Starts a server, and waits until it has printed this many addresses.
    ///
    /// # Errors
    ///
    /// If the process cannot be started, prints something else first, or ends.
    pub fn start(mut command: Command, addresses: usize) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("RUST_BACKTRACE", "0");
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{program}`"))?;
        let stdout = Lines::collect(child.stdout.take());
        let stderr = Lines::collect(child.stderr.take());
        let mut server = Server {
            child,
            stdout,
            stderr,
            addresses: Vec::new(),
            patience: patience(),
        };
        server.stdout.wait_for(addresses, patience());
        let first = server.stdout.get();
        for line in first.iter().take(addresses) {
            server.addresses.push(
                line.parse()
                    .with_context(|| format!("not an address: {line}"))?,
            );
        }
        if server.addresses.len() < addresses {
            bail!(
                "`{program}` did not start: {first:?} {:?}",
                server.stderr.get()
            );
        }
        Ok(server)
    }

    /// Returns the first address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory in KiB (VmRSS in proc_pid_status(5)).
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn resident(&self) -> Result<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS: the process has ended")?;
        let kibibytes = line.split_whitespace().next().context("VmRSS is empty")?;
        Ok(kibibytes.parse()?)
    }

    /// Returns the number of open descriptors, without those of the component's code and of the
    /// pool of its instances, which a server makes while it already serves.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn descriptors(&self) -> Result<usize> {
        let counts = |entry: &fs::DirEntry| match fs::read_link(entry.path()) {
            Ok(file) => {
                let file = file.to_string_lossy();
                !file.ends_with("/pagemap") && !file.starts_with("/memfd:wasm-memory-image")
            }
            // Closed meanwhile.
            Err(_) => false,
        };
        let open = fs::read_dir(format!("/proc/{}/fd", self.id()))?;
        let open: Vec<_> = open.collect::<Result<_, _>>()?;
        Ok(open.iter().filter(|entry| counts(entry)).count())
    }

    /// Waits until no more descriptors are open than there were before.
    ///
    /// # Errors
    ///
    /// If more of them stay open.
    pub fn closes_to(&self, before: usize) -> Result<()> {
        let mut now = before;
        eventually("the descriptors are closed", || {
            now = self.descriptors()?;
            Ok(now <= before)
        })
        .with_context(|| {
            let open = self.open_files().join(", ");
            format!("{before} descriptors were open before, and {now} are now: {open}")
        })
    }

    /// Describes each open file: its path or kind, and for a TCP socket its line in
    /// `/proc/net/tcp` (proc(5)), which has the addresses and the state.
    fn open_files(&self) -> Vec<String> {
        let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", self.id()));
        let sockets = sockets.unwrap_or_default();
        let folder = fs::read_dir(format!("/proc/{}/fd", self.id()));
        let links = folder.into_iter().flatten().flatten();
        let socket = |name: &str| {
            let inode = name.strip_prefix("socket:[")?.strip_suffix(']')?;
            let is_it = |line: &&str| line.split_whitespace().nth(9) == Some(inode);
            sockets.lines().find(is_it)
        };
        links
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .map(|link| {
                let name = link.to_string_lossy();
                format!("{name} {}", socket(&name).unwrap_or_default().trim())
            })
            .collect()
    }

    /// Waits until this many lines have been printed after the addresses, for at most
    /// [`Server::patience`]. Returns all lines so far.
    pub fn printed(&self, lines: usize) -> Vec<String> {
        let skipped = self.addresses.len();
        self.stdout.wait_for(skipped + lines, self.patience);
        self.stdout.get().split_off(skipped)
    }

    /// Returns the lines on standard error so far.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.stderr.get()
    }

    /// Waits until a line that contains `text` has been logged.
    ///
    /// # Errors
    ///
    /// If no such line comes.
    pub fn logged(&self, text: &str) -> Result<()> {
        self.logged_line(text).map(drop)
    }

    /// Waits until a line that contains `text` has been logged, and returns the first one.
    ///
    /// # Errors
    ///
    /// If no such line comes.
    pub fn logged_line(&self, text: &str) -> Result<String> {
        let deadline = Instant::now() + patience();
        while Instant::now() < deadline {
            let lines = self.stderr.get();
            if let Some(line) = lines.into_iter().find(|line| line.contains(text)) {
                return Ok(line);
            }
            thread::sleep(POLL);
        }
        bail!("`{text}` was not logged: {:?}", self.stderr.get())
    }

    /// Sends a signal. For SIGSTOP, waits until the process has stopped: kill(2) returns
    /// before every thread has seen the signal.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id())?;
        let process = Pid::from_raw(id).context("a process has no id")?;
        kill_process(process, signal)?;
        if signal == Signal::STOP {
            let (_, status) = waitpid(Some(process), WaitOptions::UNTRACED)?
                .context("waitpid returned nothing")?;
            ensure!(
                status.stopped(),
                "the server ended instead of stopping: {status:?}"
            );
        }
        Ok(())
    }

    /// Sends a signal, and waits until the process has ended.
    ///
    /// # Errors
    ///
    /// If the process does not end.
    pub fn stop(self, signal: Signal) -> Result<Stopped> {
        self.signal(signal)?;
        self.wait()
    }

    /// Whether the process has not ended.
    ///
    /// # Errors
    ///
    /// If waitpid(2) fails.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until the process has ended by itself. Others may go on with its output.
    ///
    /// # Errors
    ///
    /// If the process does not end.
    pub fn ends(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "the server does not end: {:?}",
                self.stderr.get()
            );
            thread::sleep(POLL);
        }
    }

    /// Waits until the process has ended by itself, and its output with it.
    ///
    /// # Errors
    ///
    /// If the process does not end.
    pub fn wait(mut self) -> Result<Stopped> {
        let status = self.ends()?;
        self.stdout.join();
        self.stderr.join();
        Ok(Stopped {
            status,
            stdout: self.stdout.get().split_off(self.addresses.len()),
            stderr: self.stderr.get(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command until it ends by itself.
///
/// # Errors
///
/// If the command cannot be started, or does not end.
pub fn run(mut command: Command) -> Result<Stopped> {
    command.env("RUST_BACKTRACE", "0");
    Server::start(command, 0)?.wait()
}

/// The lines of one of a process's streams, collected by a thread.
#[derive(Debug)]
struct Lines {
    shared: Arc<(Mutex<Collected>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn collect(from: Option<impl Read + Send + 'static>) -> Self {
        let shared = Arc::<(Mutex<Collected>, Condvar)>::default();
        let thread = from.map(|from| {
            let shared = shared.clone();
            thread::spawn(move || {
                for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    shared.0.lock().expect("not poisoned").lines.push(line);
                    shared.1.notify_all();
                }
                shared.0.lock().expect("not poisoned").ended = true;
                shared.1.notify_all();
            })
        });
        Lines { shared, thread }
    }

    fn get(&self) -> Vec<String> {
        self.shared.0.lock().expect("not poisoned").lines.clone()
    }

    fn wait_for(&self, count: usize, patience: Duration) {
        let collected = self.shared.0.lock().expect("not poisoned");
        let _waited = self
            .shared
            .1
            .wait_timeout_while(collected, patience, |collected| {
                collected.lines.len() < count && !collected.ended
            })
            .expect("not poisoned");
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("reading lines does not panic");
        }
    }
}

/// Makes a command with arguments.
#[must_use]
pub fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
