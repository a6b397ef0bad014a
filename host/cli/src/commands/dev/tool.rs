//! A tool in a process of its own, with what it starts.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

/// A tool that runs.
#[derive(Debug)]
pub(super) struct Tool(Child);

impl Tool {
    /// Starts a tool, and takes its output if that is piped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        // A group of its own, so that `kill` reaches what it starts.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let child = child.with_context(|| {
            format!("cannot run `{program}`; install it, or add its folder to PATH")
        })?;
        Ok(Tool(child))
    }

    /// The process, to wait for it and to read what it prints.
    pub(super) fn process(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Ends the tool and what it has started.
    pub(super) fn kill(mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // Both fail if the tool has ended by itself and been waited for.
        if let (Ok(None), Some(group)) = (self.0.try_wait(), group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
