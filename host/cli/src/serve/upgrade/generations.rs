//! The processes that came before, as long as they drain.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use halfopen::Server;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::channel::Channel;
use super::known::Known;
use super::line::Line;
use super::message::Message;
use super::passing::{Arrivals, arrived};
use crate::control::{self, now};

/// How long to wait for what the processes tell, before this one accepts.
const TELL: Duration = Duration::from_secs(1);

/// Processes that drain after an upgrade, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Generations(Vec<Generation>);

/// A process. The descriptor becomes readable when the process ends (pidfd_open(2)), and unlike
/// the number is never another's.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) process: u32,
    /// How many processes there were before it, and one more.
    pub(super) number: u32,
    /// Since when it drains, in seconds since 1970.
    pub(super) since: u64,
    descriptor: OwnedFd,
    /// Whether it hands connections over, if somebody takes them.
    pub(super) hands_over: bool,
    /// How it tells of itself.
    channel: Option<Channel>,
    known: Arc<Mutex<Known>>,
    /// The task that hears it.
    hearing: Option<JoinHandle<()>>,
}

impl Generation {
    /// A process that was handed over.
    pub(super) fn new(process: u32, number: u32, since: u64, descriptor: OwnedFd) -> Self {
        Generation {
            process,
            number,
            since,
            descriptor,
            hands_over: false,
            channel: None,
            known: Arc::default(),
            hearing: None,
        }
    }

    /// This process, which drains from now on.
    pub(super) fn this(number: u32) -> anyhow::Result<Self> {
        let descriptor = pidfd_open(getpid(), PidfdFlags::empty())
            .context("the kernel has no pidfd_open(2), which came with Linux 5.3")?;
        let process = std::process::id();
        let mut this = Generation::new(process, number, now(), descriptor);
        this.hands_over = true;
        Ok(this)
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    pub(super) fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    fn is_alive(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.descriptor, PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec::default())) == Ok(0)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// Whether somebody hears it who has not yet heard everything that it has said.
    fn is_heard(&self) -> bool {
        let hearing = self.hearing.as_ref();
        hearing.is_some_and(|hearing| !hearing.is_finished())
    }

    /// Hears the process from now on, if nobody does; with `ask`, it tells everything once more.
    /// Connections that it hands over go to `arrivals`. The receiver resolves once it has told
    /// everything, or has ended.
    fn hear(&mut self, ask: bool, arrivals: &Arrivals) -> Option<oneshot::Receiver<()>> {
        if self.hearing.is_some() {
            return None;
        }
        let line = Line::new(self.channel.as_ref()?.try_clone().ok()?).ok()?;
        let (known, arrivals) = (self.known.clone(), arrivals.clone());
        let (told, all_told) = oneshot::channel();
        let mut told = Some(told).filter(|_| ask);
        self.hearing = Some(tokio::spawn(async move {
            if ask {
                lock(&known).forget();
                // If the process has ended, receiving says so.
                let _ = line.send(&Message::Tell).await;
            }
            while let Ok((message, descriptors)) = line.receive().await {
                if let Some(arrived) = arrived(&message, descriptors) {
                    // If this process is about to end, dropping it resets the connection.
                    let _ = arrivals.send(arrived);
                } else if lock(&known).hear(message) {
                    drop(told.take());
                }
            }
            lock(&known).ended();
        }));
        Some(all_told)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(hearing) = &self.hearing {
            hearing.abort();
        }
    }
}

impl Generations {
    pub(super) fn push(&mut self, generation: Generation) {
        self.0.push(generation);
    }

    /// Sets how a process tells of itself.
    pub(super) fn set_channel(&mut self, process: u32, channel: Channel) {
        let mut all = self.0.iter_mut();
        if let Some(generation) = all.find(|generation| generation.process == process) {
            generation.channel = Some(channel);
        }
    }

    /// Takes in what a process has told over another channel than its own.
    pub(super) fn tells(&self, process: u32, message: Message) {
        let mut all = self.0.iter();
        if let Some(generation) = all.find(|generation| generation.process == process) {
            generation.known().hear(message);
        }
    }

    /// Hears all processes from now on. Returns when they have told everything, or when that
    /// takes too long. The `latest` one drains from now on, and has told everything. Connections
    /// that they hand over go to `arrivals`.
    pub(crate) async fn hear(&mut self, latest: Option<u32>, arrivals: &Arrivals) {
        let mut told = Vec::new();
        for generation in &mut self.0 {
            let is_latest = latest == Some(generation.process);
            if is_latest {
                generation.since = now();
            }
            told.extend(generation.hear(!is_latest, arrivals));
        }
        // One that does not answer tells later, or never.
        let _ = timeout(TELL, join_all(told)).await;
    }

    /// Tells the processes of which services this one takes connections whose bytes only pass
    /// through.
    pub(crate) fn take(&self, services: &[String]) {
        let takes = Message::Takes {
            services: services.to_vec(),
        };
        for generation in self.0.iter().filter(|one| one.hands_over) {
            if let Some(channel) = generation.channel() {
                // It reads at once, or has ended. Otherwise its connections drain.
                let _ = channel.send_now(&takes, &[]);
            }
        }
    }

    /// Hears no process any more: a successor does.
    pub(crate) async fn hear_nobody(&mut self) {
        for generation in &mut self.0 {
            if let Some(hearing) = generation.hearing.take() {
                hearing.abort();
                // Of the task that was cancelled.
                let _ = hearing.await;
            }
        }
    }

    /// Lets the server of a service count the connections that peers have in these processes.
    pub(crate) fn count_at(&self, service: &str, server: &Server) {
        for generation in &self.0 {
            generation.known().count_at(service, server);
        }
    }

    /// Returns the processes that still run, the oldest first.
    pub(crate) fn alive(&mut self) -> Vec<control::Generation> {
        // What one has said before its end is still to be heard.
        self.0.retain(|one| one.is_alive() || one.is_heard());
        let alive = self.0.iter().filter(|one| one.is_alive());
        alive
            .map(|one| control::Generation {
                process: one.process,
                generation: one.number,
                state: control::State::Draining,
                since: one.since,
                connections: one.known().connections,
            })
            .collect()
    }

    /// Lets them open the files of their logs anew.
    pub(crate) fn reopen(&self) {
        for generation in &self.0 {
            // Fails if it has ended.
            let _ = pidfd_send_signal(generation.descriptor.as_fd(), Signal::USR1);
        }
    }

    pub(super) fn is_alive(&self, process: u32) -> bool {
        let mut of_process = self.0.iter().filter(|one| one.process == process);
        of_process.any(Generation::is_alive)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Generation> {
        self.0.iter()
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // No code panics while it holds the lock.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::Pid;

    use super::*;

    /// A process of an earlier version ends the conversation at a message that it does not know.
    #[test]
    fn a_process_of_an_earlier_version_hears_nothing_new() {
        let text = r#"{"generation":{"process":7,"generation":1,"since":9}}"#;
        let Message::Generation { hands_over, .. } = serde_json::from_str(text).unwrap() else {
            panic!("{text}");
        };
        assert!(!hands_over);
        let mut generations = Generations::default();
        for (process, hands_over) in [(7, hands_over), (8, true)] {
            let mut one = Generation::this(1).unwrap();
            (one.process, one.hands_over) = (process, hands_over);
            generations.push(one);
        }
        let others = [7, 8].map(|process| {
            let (ours, theirs) = Channel::pair().unwrap();
            generations.set_channel(process, ours);
            Channel::of(theirs)
        });
        generations.take(&["echo".to_owned()]);
        let heard = others.map(|other| other.receive_now().map(|(message, _)| message));
        let [Err(nothing), Ok(Message::Takes { services })] = heard else {
            panic!("{heard:?}");
        };
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(services, ["echo"]);
    }

    #[test]
    fn a_process_that_has_ended_is_forgotten() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let descriptor = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let mut generations = Generations::default();
        generations.push(Generation::this(1).unwrap());
        generations.push(Generation::new(child.id(), 2, 7, descriptor));
        let mut alive = || -> Vec<_> {
            let alive = generations.alive().into_iter();
            alive.map(|one| (one.process, one.generation)).collect()
        };
        assert_eq!(alive(), [(std::process::id(), 1), (child.id(), 2)]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(alive(), [(std::process::id(), 1)]);
    }
}
