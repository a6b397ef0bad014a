//! The server of `halfopen dev`: `halfopen serve` in a process of its own.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::args::making::DevArgs;
use crate::signals::Signals;

/// The interval between looks whether the server has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The server. It is killed on drop.
pub(super) struct Server {
    process: Child,
    /// Whether the server has printed its address: before that, a signal would end it.
    started: Arc<AtomicBool>,
    /// A build succeeded before the server had started.
    reload: bool,
}

impl Server {
    pub(super) fn start(
        args: &DevArgs,
        component: &Path,
        variables: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find the command `halfopen`")?;
        let mut command = Command::new(own);
        command.arg("serve").arg(component);
        if let Some(variables) = variables {
            command.arg("--env-file").arg(variables);
        }
        #[cfg(target_os = "linux")]
        end_with_this_process(&mut command);
        let mut process = command
            .args(["--listen", &args.listen.to_string()])
            .args(&args.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A group of its own: a terminal sends Ctrl-C to this process alone, which passes it on.
            .process_group(0)
            .spawn()
            .context("cannot start the server")?;
        let started = Arc::new(AtomicBool::new(false));
        if let Some(output) = process.stdout.take() {
            let started = started.clone();
            thread::spawn(move || pass_on(output, &started));
        }
        Ok(Server {
            process,
            started,
            reload: false,
        })
    }

    /// Switches to the component that was built.
    pub(super) fn reload(&mut self) -> anyhow::Result<()> {
        self.reload = true;
        self.signal_reload()
    }

    fn signal_reload(&mut self) -> anyhow::Result<()> {
        if self.reload && self.started.load(Ordering::Acquire) {
            self.reload = false;
            self.signal(Signal::HUP)?;
        }
        Ok(())
    }

    /// How the server has ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitCode>> {
        if let Some(status) = self.process.try_wait()? {
            return Ok(Some(code(status)));
        }
        self.signal_reload()?;
        Ok(None)
    }

    /// Stops the server, and waits until its connections have ended; a second signal ends them at
    /// once.
    pub(super) async fn stop(mut self, signals: &mut Signals) -> anyhow::Result<ExitCode> {
        self.signal(Signal::TERM)?;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(code(status));
            }
            tokio::select! {
                () = signals.stop() => self.signal(Signal::TERM)?,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.process.id())?;
        let process = Pid::from_raw(id).context("the server has no process id")?;
        kill_process(process, signal).context("cannot signal the server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets the kernel stop the server if this process is killed (PR_SET_PDEATHSIG in prctl(2)): it would
/// keep the port, and nobody would know of it.
#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "the closure makes one system call, as is allowed after fork(2)"
)]
fn end_with_this_process(command: &mut Command) {
    let set = || {
        Ok(rustix::process::set_parent_process_death_signal(Some(
            Signal::TERM,
        ))?)
    };
    // SAFETY: the closure neither allocates nor takes a lock.
    unsafe { command.pre_exec(set) };
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Passes on what the server prints. Its first line is its address.
fn pass_on(mut output: ChildStdout, started: &AtomicBool) {
    let mut buffer = [0; 8192];
    loop {
        match output.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let printed = &buffer[..length];
                if printed.contains(&b'\n') {
                    started.store(true, Ordering::Release);
                }
                let mut stdout = io::stdout();
                if stdout
                    .write_all(printed)
                    .and_then(|()| stdout.flush())
                    .is_err()
                {
                    // It is closed, as with `| head`. The service does not notice.
                    let _ = io::copy(&mut output, &mut io::sink());
                    return;
                }
            }
        }
    }
}
