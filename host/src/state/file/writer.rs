//! The thread that writes to a file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redb::Database;
use tokio::sync::oneshot;

use super::database;
use super::slot::{Durability, Slot, current};
use super::tables::Writing;
use crate::state::request::{Change, Changed};
use crate::state::{Quota, StateError};

/// The most changes in one transaction.
const GROUP: usize = 1024;

/// How often the file is synced with [`Durability::EverySecond`].
const SYNC: Duration = Duration::from_secs(1);

/// The least time between two attempts to open a file that has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a read that goes on may hold up opening a file again.
const PATIENCE: Duration = Duration::from_secs(5);

type Answer<T> = oneshot::Sender<Result<T, StateError>>;

/// What the writer has to do.
pub(super) enum Order {
    Change(Job),
    /// Bring everything onto the disk.
    Flush(Answer<()>),
}

/// A change that waits for its turn.
pub(super) struct Job {
    pub(super) bucket: Arc<str>,
    pub(super) quota: Quota,
    pub(super) change: Change,
    pub(super) answer: Answer<Changed>,
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
    pub(super) database: Slot,
    pub(super) orders: Receiver<Order>,
    /// When the changes that are not on the disk yet have to be there.
    unsynced: Option<Instant>,
    /// When the file was last opened.
    opened: Instant,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        durability: Durability,
        database: Slot,
        orders: Receiver<Order>,
    ) -> Self {
        Writer {
            path,
            durability,
            database,
            orders,
            unsynced: None,
            opened: Instant::now(),
        }
    }

    /// Obeys orders until nobody can give any, and closes the file.
    pub(super) fn run(mut self) {
        loop {
            match self.next() {
                Ok(first) => self.obey(first),
                Err(RecvTimeoutError::Timeout) => drop(self.sync()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Nobody is left to be told.
        let _ = self.sync();
        self.take();
    }

    fn next(&self) -> Result<Order, RecvTimeoutError> {
        match self.unsynced {
            Some(due) => {
                let left = due.saturating_duration_since(Instant::now());
                self.orders.recv_timeout(left)
            }
            None => Ok(self.orders.recv()?),
        }
    }

    /// Obeys this order, and with it those that wait by now.
    fn obey(&mut self, first: Order) {
        let mut jobs = Vec::new();
        let mut flushes = Vec::new();
        let waiting = self.orders.try_iter().take(GROUP - 1);
        for order in [first].into_iter().chain(waiting) {
            match order {
                Order::Change(job) => jobs.push(job),
                Order::Flush(answer) => flushes.push(answer),
            }
        }
        if !jobs.is_empty() {
            let applied = self.attempt(|writer, database| writer.apply(database, &jobs));
            match applied {
                Ok(applied) => {
                    for (job, changed) in jobs.into_iter().zip(applied) {
                        // Fails if the instance has ended meanwhile.
                        let _ = job.answer.send(changed);
                    }
                }
                Err(error) => {
                    for job in jobs {
                        let _ = job.answer.send(Err(error.clone()));
                    }
                }
            }
        }
        if self.unsynced.is_some_and(|due| due <= Instant::now()) || !flushes.is_empty() {
            let synced = self.sync();
            for answer in flushes {
                let _ = answer.send(synced.clone());
            }
        }
    }

    /// Applies changes in one transaction.
    fn apply(
        &mut self,
        database: &Database,
        jobs: &[Job],
    ) -> Result<Vec<Result<Changed, StateError>>, redb::Error> {
        let mut transaction = database.begin_write()?;
        if self.durability == Durability::EverySecond {
            transaction.set_durability(redb::Durability::None)?;
        }
        let mut writing = Writing::of(&transaction)?;
        let applied = jobs
            .iter()
            .map(|job| writing.apply(&job.bucket, job.quota, &job.change))
            .collect::<Result<_, _>>()?;
        let changed = writing.changed;
        drop(writing);
        match changed {
            true => transaction.commit()?,
            false => transaction.abort()?,
        }
        if changed && self.durability == Durability::EverySecond && self.unsynced.is_none() {
            self.unsynced = Some(Instant::now() + SYNC);
        }
        Ok(applied)
    }

    /// Brings everything onto the disk.
    fn sync(&mut self) -> Result<(), StateError> {
        if self.unsynced.take().is_none() {
            return Ok(());
        }
        self.attempt(|_, database| Ok(database.begin_write()?.commit()?))
    }

    /// Does something with the database. After a failure redb refuses everything else, also when
    /// the disk has room again, so the file is opened anew.
    fn attempt<T>(
        &mut self,
        attempt: impl FnOnce(&mut Self, &Database) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        if current(&self.database).is_err() {
            self.open_again();
        }
        let database = current(&self.database)?;
        // A panic of the database fails the changes, and not this thread.
        let done = catch_unwind(AssertUnwindSafe(|| attempt(self, &database)));
        drop(database);
        let error = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database panicked".to_owned(),
        };
        self.unsynced = None;
        self.take();
        Err(StateError::Failed(error))
    }

    /// Opens the file again, unless that was tried a moment ago.
    fn open_again(&mut self) {
        if self.opened.elapsed() < AGAIN {
            return;
        }
        self.opened = Instant::now();
        match database::again(&self.path) {
            Ok(database) => {
                tracing::info!("the state `{}` is open again", self.path.display());
                let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
                *slot = Some(Arc::new(database));
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// Closes the file, and waits until the reads that go on have let go of it.
    fn take(&mut self) {
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut database) = slot.take() else {
            return;
        };
        drop(slot);
        let begun = Instant::now();
        while Arc::get_mut(&mut database).is_none() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        // Closing can fail, or panic after a failure.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}
