//! A server in a process of its own.

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

/// How long a server may take for anything: to start, to print, to stop. Generous,
/// because the machine may be busy; nothing waits so long that works.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server, which is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// Where it listens, as it said in its first lines.
    pub addresses: Vec<SocketAddr>,
    /// How long to wait for what it prints.
    pub patience: Duration,
}

/// What a server that has stopped left behind.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed, after the addresses.
    pub stdout: Vec<String>,
    /// What it logged.
    pub stderr: Vec<String>,
}

impl Server {
    /// Starts it, and waits until it has said on how many addresses it listens.
    ///
    /// # Errors
    /// If it cannot be started, or says something else, or stops.
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
            patience: PATIENCE,
        };
        server.stdout.wait_for(addresses, PATIENCE);
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

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kibibytes of memory that it has now (proc_pid_status(5), VmRSS).
    ///
    /// # Errors
    /// If it has gone.
    pub fn resident(&self) -> Result<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        let kibibytes = line.split_whitespace().next().context("no figure")?;
        Ok(kibibytes.parse()?)
    }

    /// Waits until it has printed that many lines after the addresses, or for as long
    /// as it may take.
    pub fn printed(&self, lines: usize) -> Vec<String> {
        let skipped = self.addresses.len();
        self.stdout.wait_for(skipped + lines, self.patience);
        self.stdout.get().split_off(skipped)
    }

    /// Waits until it has logged a line that contains `text`.
    ///
    /// # Errors
    /// If it does not.
    pub fn logged(&self, text: &str) -> Result<()> {
        self.logged_line(text).map(drop)
    }

    /// The first line that it has logged and that contains `text`; waits for one.
    ///
    /// # Errors
    /// If none comes.
    pub fn logged_line(&self, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let lines = self.stderr.get();
            if let Some(line) = lines.into_iter().find(|line| line.contains(text)) {
                return Ok(line);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("`{text}` was not logged: {:?}", self.stderr.get())
    }

    /// Sends a signal. After SIGSTOP all its threads stand still when this returns: the
    /// signal alone lets those go on that have not seen it yet.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id())?;
        let process = Pid::from_raw(id).context("no process")?;
        kill_process(process, signal)?;
        if signal == Signal::STOP {
            let (_, status) =
                waitpid(Some(process), WaitOptions::UNTRACED)?.context("nothing waited for")?;
            ensure!(status.stopped(), "it ended instead of stopping: {status:?}");
        }
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// If it does not.
    pub fn stop(self, signal: Signal) -> Result<Stopped> {
        self.signal(signal)?;
        self.wait()
    }

    /// Waits until it has stopped by itself.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait(mut self) -> Result<Stopped> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "the server does not stop");
            thread::sleep(Duration::from_millis(5));
        };
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
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that is expected to stop by itself, soon.
///
/// # Errors
/// If it cannot be started, or does not stop.
pub fn run(mut command: Command) -> Result<Stopped> {
    command.env("RUST_BACKTRACE", "0");
    Server::start(command, 0)?.wait()
}

/// Lines that a process prints, as they come.
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

/// A command with arguments.
#[must_use]
pub fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
