//! The processes that came before, as long as they drain.

use std::os::fd::OwnedFd;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

/// Processes that drain after an upgrade.
#[derive(Debug, Default)]
pub(crate) struct Generations(Vec<Generation>);

/// A process. The descriptor becomes readable when the process ends (pidfd_open(2)), and unlike
/// the number is never another's.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) process: u32,
    pub(super) descriptor: OwnedFd,
}

impl Generation {
    /// This process.
    pub(super) fn this() -> anyhow::Result<Self> {
        let descriptor = pidfd_open(getpid(), PidfdFlags::empty())
            .context("the kernel has no pidfd_open(2), which came with Linux 5.3")?;
        Ok(Generation {
            process: std::process::id(),
            descriptor,
        })
    }

    fn is_alive(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.descriptor, PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec::default())) == Ok(0)
    }
}

impl Generations {
    pub(super) fn push(&mut self, generation: Generation) {
        self.0.push(generation);
    }

    /// Returns the processes that still run, the oldest first.
    pub(crate) fn alive(&mut self) -> Vec<u32> {
        self.0.retain(Generation::is_alive);
        self.0.iter().map(|generation| generation.process).collect()
    }

    pub(super) fn is_alive(&self, process: u32) -> bool {
        let mut of_process = self.0.iter().filter(|one| one.process == process);
        of_process.any(Generation::is_alive)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Generation> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::Pid;

    use super::*;

    #[test]
    fn a_process_that_has_ended_is_forgotten() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let descriptor = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let mut generations = Generations::default();
        generations.push(Generation::this().unwrap());
        generations.push(Generation {
            process: child.id(),
            descriptor,
        });
        assert_eq!(generations.alive(), [std::process::id(), child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(generations.alive(), [std::process::id()]);
    }
}
