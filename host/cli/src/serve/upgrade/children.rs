//! Process 1 of a container, whose end would be that of the container: it stays until its
//! successors have ended.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

use crate::observe::log::Log;
use crate::signals::{Request, Signals};

/// The processes below process 1: successors, and those of successors. The kernel makes process
/// 1 the parent of every process that loses its own (pid_namespaces(7)).
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// The processes that have been told to stop.
    stopping: Option<Vec<Pid>>,
}

impl Children {
    /// `None` unless this is process 1.
    pub(crate) fn of_the_first_process() -> Option<Self> {
        getpid().is_init().then(Children::default)
    }

    /// Sends to every process below what a signal has requested here: a container's engine
    /// signals process 1 alone.
    pub(crate) fn pass_on(&mut self, request: Request) {
        let signal = match request {
            Request::Stop => Signal::TERM,
            Request::Reload => Signal::HUP,
            Request::Upgrade => Signal::USR2,
            Request::Reopen => Signal::USR1,
        };
        let below = below(Path::new("/proc/self"));
        for &process in &below {
            // It may have ended just now.
            let _ = kill_process(process, signal);
        }
        if request == Request::Stop {
            self.stopping = Some(below);
        }
    }

    /// Tells those to stop that were not found before: a process whose parent ended at that
    /// moment is process 1's own child only now.
    fn tell_others(&mut self) {
        if let Some(told) = &mut self.stopping {
            for process in below(Path::new("/proc/self")) {
                if !told.contains(&process) {
                    let _ = kill_process(process, Signal::TERM);
                    told.push(process);
                }
            }
        }
    }

    /// Waits until no child runs, and passes signals on. Returns the status of the last one.
    pub(crate) async fn outlive(&mut self, signals: &mut Signals, log: &Log) -> ExitCode {
        let mut status = ExitCode::SUCCESS;
        let Ok(mut ended) = signal(SignalKind::child()) else {
            return ExitCode::FAILURE;
        };
        loop {
            self.tell_others();
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some((_, child))) => status = code(child.exit_status()),
                    Ok(None) => break,
                    Err(Errno::INTR) => {}
                    Err(_) => return status,
                }
            }
            tokio::select! {
                _ = ended.recv() => {}
                request = signals.next() => {
                    if request == Request::Reopen {
                        // A file that is removed keeps its room as long as it is open.
                        log.reopen();
                    }
                    self.pass_on(request);
                }
            }
        }
    }
}

/// The status of a child; one that a signal has ended has failed.
fn code(status: Option<i32>) -> ExitCode {
    match status.map(u8::try_from) {
        Some(Ok(status)) => ExitCode::from(status),
        _ => ExitCode::FAILURE,
    }
}

/// Reads the processes below one, from the children of each of its threads
/// (proc_pid_task(5), `children`).
fn below(process: &Path) -> Vec<Pid> {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let mut all = Vec::new();
    for list in lists {
        for child in list.split_whitespace() {
            all.extend(child.parse().ok().and_then(Pid::from_raw));
            all.extend(below(&Path::new("/proc").join(child)));
        }
    }
    all
}
