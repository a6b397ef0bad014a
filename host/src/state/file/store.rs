//! What a bucket does with a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use redb::ReadableDatabase;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::slot::{Durability, Slot, current};
use super::tables::Reading;
use super::writer::{Job, Order};
use crate::state::request::{Change, Changed, Keys};
use crate::state::{Quota, StateError};

/// A file that is open. It is closed, by the writer's thread, once the last handle is dropped.
pub(in crate::state) struct FileStore {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
    pub(super) database: Slot,
    pub(super) writer: Sender<Order>,
}

impl FileStore {
    pub(in crate::state) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::state) async fn get(
        &self,
        bucket: &Arc<str>,
        key: &str,
    ) -> Result<Option<Vec<u8>>, StateError> {
        let (bucket, key) = (bucket.clone(), key.to_owned());
        self.read(move |reading| reading.get(&bucket, &key)).await
    }

    pub(in crate::state) async fn exists(
        &self,
        bucket: &Arc<str>,
        key: &str,
    ) -> Result<bool, StateError> {
        let (bucket, key) = (bucket.clone(), key.to_owned());
        self.read(move |reading| reading.exists(&bucket, &key))
            .await
    }

    pub(in crate::state) async fn keys(
        &self,
        bucket: &Arc<str>,
        after: Option<&str>,
    ) -> Result<Keys, StateError> {
        let (bucket, after) = (bucket.clone(), after.map(str::to_owned));
        self.read(move |reading| reading.keys(&bucket, after.as_deref()))
            .await
    }

    pub(in crate::state) async fn get_many(
        &self,
        bucket: &Arc<str>,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let (bucket, keys) = (bucket.clone(), keys.to_owned());
        let values = self.read(move |reading| reading.get_many(&bucket, &keys));
        values.await?.ok_or(StateError::LargeBatch)
    }

    pub(in crate::state) async fn change(
        &self,
        bucket: &Arc<str>,
        quota: Quota,
        change: Change,
    ) -> Result<Changed, StateError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            bucket: bucket.clone(),
            quota,
            change,
            answer,
        };
        self.order(Order::Change(job))?;
        answered.await.map_err(StateError::failed)?
    }

    /// Waits until everything that was written before is on the disk.
    pub(in crate::state) async fn flush(&self) -> Result<(), StateError> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Flush(answer))?;
        answered.await.map_err(StateError::failed)?
    }

    fn order(&self, order: Order) -> Result<(), StateError> {
        // The writer ends only after this.
        self.writer
            .send(order)
            .map_err(|_| StateError::failed("its writer has ended"))
    }

    /// Reads on a thread that may block: what is not in memory comes from the disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading) -> redb::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let database = current(&self.database)?;
        let reading = spawn_blocking(move || {
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            let reading = Reading::of(&transaction)?;
            Ok::<_, redb::Error>(read(&reading)?)
        });
        let read = reading.await.map_err(StateError::failed)?;
        read.map_err(StateError::failed)
    }
}
