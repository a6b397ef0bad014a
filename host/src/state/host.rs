//! The functions of `wasi:keyvalue`.

use wasmtime::component::Resource;

use super::bindings::wasi::keyvalue::atomics::{self, CasError};
use super::bindings::wasi::keyvalue::batch;
use super::bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use super::ctx::Cas;
use super::{Bucket, StateCtxView, StateError};

/// The names of the bucket that a component has.
const DEFAULT: [&str; 2] = ["default", ""];

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl StateCtxView<'_> {
    /// Turns a request's outcome into what the component sees, and reports a failure.
    fn answer<T>(&self, outcome: Result<T, StateError>) -> Result<T, Error> {
        outcome.map_err(|error| {
            if let (StateError::Failed(why), Some(report)) = (&error, &self.ctx.on_failed) {
                report(why);
            }
            Error::Other(error.to_string())
        })
    }

    fn bucket(&self, handle: &Resource<Bucket>) -> wasmtime::Result<Bucket> {
        Ok(self.table.get(handle)?.clone())
    }

    /// Gives the component a handle, unless it has too many.
    fn handle<T: Send + 'static>(&mut self, resource: T) -> Result<Resource<T>, Error> {
        let pushed = self.table.push(resource);
        pushed.map_err(|error| Error::Other(error.to_string()))
    }
}

impl store::Host for StateCtxView<'_> {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        let Some(bucket) = self.ctx.bucket.clone() else {
            if let Some(report) = &self.ctx.on_denied {
                report();
            }
            return Ok(Err(Error::AccessDenied));
        };
        if !DEFAULT.contains(&identifier.as_str()) {
            return Ok(Err(Error::NoSuchStore));
        }
        Ok(self.handle(bucket))
    }
}

impl store::HostBucket for StateCtxView<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let value = self.bucket(&bucket)?.get(&key).await;
        Ok(self.answer(value))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let set = self.bucket(&bucket)?.set_many([(key, value)].into()).await;
        Ok(self.answer(set))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let deleted = self.bucket(&bucket)?.delete_many([key].into()).await;
        Ok(self.answer(deleted))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let exists = self.bucket(&bucket)?.exists(&key).await;
        Ok(self.answer(exists))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Answer<KeyResponse> {
        let page = self.bucket(&bucket)?.keys_after(cursor.as_deref()).await;
        let response = page.map(|page| KeyResponse {
            cursor: page.keys.last().filter(|_| page.more).cloned(),
            keys: page.keys,
        });
        Ok(self.answer(response))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for StateCtxView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Answer<i64> {
        let sum = self.bucket(&bucket)?.increment(key, delta).await;
        Ok(self.answer(sum))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Cas {
            bucket,
            key,
            current,
            ..
        } = self.table.delete(cas)?;
        let swapped = bucket.swap(key.clone(), current, value).await;
        let otherwise = match self.answer(swapped) {
            Ok(Ok(())) => return Ok(Ok(())),
            Ok(Err(otherwise)) => otherwise,
            Err(error) => return Ok(Err(CasError::StoreError(error))),
        };
        let next = self.ctx.cas(bucket, key, otherwise);
        let next = self.answer(next).and_then(|next| self.handle(next));
        Ok(Err(match next {
            Ok(next) => CasError::CasFailed(next),
            Err(error) => CasError::StoreError(error),
        }))
    }
}

impl atomics::HostCas for StateCtxView<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let bucket = self.bucket(&bucket)?;
        let current = bucket.get(&key).await;
        let cas = current.and_then(|current| self.ctx.cas(bucket, key, current));
        Ok(self.answer(cas).and_then(|cas| self.handle(cas)))
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.current.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for StateCtxView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let values = self.bucket(&bucket)?.get_many(&keys).await;
        let pairs = values.map(|values| {
            let pairs = keys.into_iter().zip(values);
            pairs.map(|(key, value)| Some((key, value?))).collect()
        });
        Ok(self.answer(pairs))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        let set = bucket.set_many(pairs.into_iter().collect()).await;
        Ok(self.answer(set))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        let deleted = bucket.delete_many(keys.into_iter().collect()).await;
        Ok(self.answer(deleted))
    }
}
