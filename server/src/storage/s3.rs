//! Objects in a bucket of an S3-compatible service.
//!
//! Only what every such service does alike is relied on: single PUTs with a length and a signed
//! hash, ranged GETs, HEAD, DELETE, and `ListObjectsV2` by its own continuation. No conditional
//! request, no checksum extension, no `ETag`, no multipart upload. A PUT of a pack that is
//! attempted again goes to another key: a service that still works on the broken attempt may undo
//! it, and what has its key, after the later one was acknowledged.
//!
//! A PUT is durable when the service acknowledges it. A call is tried again while that makes sense
//! (`calls`).

mod calls;
mod circuit;
mod client;
mod credentials;
mod failure;
mod lane;
mod probe;
mod stall;

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, Object, ObjectIdentifier};
use bytes::Bytes;

use super::{FailureKind, ListedObject, ServiceFailure, StorageError};
use crate::config::{S3Config, Seconds};
use calls::{Calls, Operation};
use failure::{from_body, from_sdk};

/// How long a starting server tries again what fails.
const PROBE_RETRY_FOR: Seconds = Seconds::new(5);
/// Keys of one page of a listing.
const PAGE: usize = 1000;

/// A bucket.
#[derive(Debug)]
pub(super) struct S3 {
    client: Client,
    bucket: String,
    prefix: String,
    calls: Calls,
}

impl S3 {
    /// Connects, and proves that objects can be written, read by range, listed and deleted.
    pub(super) async fn open(config: &S3Config) -> Result<Self, StorageError> {
        let s3 = Self::attach(config).await?;
        // Whoever starts a server waits for it to say what is wrong.
        let retry_for = config.retry_for.min(PROBE_RETRY_FOR);
        let calls = Calls::new(&S3Config { retry_for, ..config.clone() });
        let trial = Self {
            client: s3.client.clone(),
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            calls,
        };
        probe::probe(&trial, config).await?;
        Ok(s3)
    }

    /// As [`Self::open`], but tries nothing.
    pub(super) async fn attach(config: &S3Config) -> Result<Self, StorageError> {
        Ok(Self {
            client: client::connect(config).await?,
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            calls: Calls::new(config),
        })
    }

    pub(super) async fn put(&self, key: &str, object: Bytes) -> Result<(), StorageError> {
        self.put_new(|| (key.to_owned(), object.clone())).await
    }

    /// Stores an object, with what `next` gives for each attempt.
    pub(super) async fn put_new(
        &self,
        mut next: impl FnMut() -> (String, Bytes),
    ) -> Result<(), StorageError> {
        let (key, object) = next();
        let len = object.len() as u64;
        let mut first = Some((key.clone(), object));
        let attempt = || {
            let (key, object) = first.take().unwrap_or_else(&mut next);
            let request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(self.full(&key))
                .content_length(i64::try_from(len).unwrap_or(i64::MAX))
                .body(ByteStream::from(object));
            async move {
                request.send().await.map(|_| ()).map_err(|error| from_sdk("PutObject", &error))
            }
        };
        self.calls.run(Operation::Put, &key, len, attempt).await
    }

    /// Exactly `len` bytes from `offset` on.
    pub(super) async fn get_range(
        &self,
        key: &str,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, StorageError> {
        let bytes = self.get_up_to(key, offset, len).await?;
        if bytes.len() as u64 == len {
            return Ok(bytes);
        }
        Err(StorageError::Short { key: key.to_owned(), wanted: offset.saturating_add(len) })
    }

    /// As [`Self::get_range`], but gives fewer bytes where the object ends before.
    pub(super) async fn get_up_to(
        &self,
        key: &str,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, StorageError> {
        let Some(last) = len.checked_sub(1).map(|more| offset.saturating_add(more)) else {
            return Ok(Vec::new());
        };
        let range = format!("bytes={offset}-{last}");
        let operation = if key == super::marker::KEY { Operation::Marker } else { Operation::Get };
        let result = self
            .calls
            .run(operation, key, len, || self.get_once(key, Some(&range), offset, len))
            .await;
        match result {
            Err(StorageError::Other {
                source: super::StorageFailure::Service(failure), ..
            }) if failure.kind == FailureKind::BeyondEnd => Ok(Vec::new()),
            result => result,
        }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        self.calls
            .run(Operation::Get, key, super::MAX_WHOLE_BYTES, || {
                self.get_once(key, None, 0, u64::MAX)
            })
            .await
    }

    async fn get_once(
        &self,
        key: &str,
        range: Option<&str>,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, ServiceFailure> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.full(key));
        let answer = request.set_range(range.map(str::to_owned)).send().await;
        let answer = answer.map_err(|error| from_sdk("GetObject", &error))?;
        // A service may answer 200 instead of 206 with the very range, or ignore the range and send
        // all of the object.
        let declared = answer.content_length().and_then(|declared| u64::try_from(declared).ok());
        let whole = range.is_some()
            && answer.content_range().is_none()
            && declared.is_none_or(|declared| declared > len);
        let skip = if whole { offset } else { 0 };
        let bytes = self.calls.collect(answer.body, skip, len, declared.unwrap_or(len)).await;
        bytes.map_err(|error| from_body("GetObject", &error))
    }

    pub(super) async fn len(&self, key: &str) -> Result<Option<u64>, StorageError> {
        let result = self
            .calls
            .run(Operation::Head, key, 0, || async {
                let request = self.client.head_object().bucket(&self.bucket).key(self.full(key));
                let answer =
                    request.send().await.map_err(|error| from_sdk("HeadObject", &error))?;
                Ok(answer.content_length().and_then(|len| u64::try_from(len).ok()).unwrap_or(0))
            })
            .await;
        match result {
            Ok(len) => Ok(Some(len)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let result = self
            .calls
            .run(Operation::Delete, key, 0, || async {
                let request = self.client.delete_object().bucket(&self.bucket).key(self.full(key));
                request.send().await.map(|_| ()).map_err(|error| from_sdk("DeleteObject", &error))
            })
            .await;
        match result {
            Err(StorageError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    /// Removes what it can by requests of up to [`PAGE`] keys; gives the keys that are to be
    /// removed one by one, since the service does not take such requests or refused those keys.
    pub(super) async fn delete_many(&self, keys: &[String]) -> Vec<String> {
        let mut rest = Vec::new();
        for batch in keys.chunks(PAGE) {
            let attempt = || async {
                let request =
                    self.client.delete_objects().bucket(&self.bucket).delete(self.batch(batch)?);
                let answer =
                    request.send().await.map_err(|error| from_sdk("DeleteObjects", &error))?;
                let own = |key: &str| key.strip_prefix(&self.prefix).map(str::to_owned);
                Ok(answer
                    .errors()
                    .iter()
                    .filter_map(|error| error.key().and_then(own))
                    .collect::<Vec<_>>())
            };
            let name = batch.first().map(String::as_str).unwrap_or_default();
            match self.calls.run(Operation::Delete, name, 0, attempt).await {
                Ok(refused) => rest.extend(refused),
                Err(error) => {
                    tracing::debug!(%error, "objects are removed one by one");
                    rest.extend_from_slice(batch);
                }
            }
        }
        rest
    }

    /// The body of a request for these keys.
    fn batch(&self, keys: &[String]) -> Result<Delete, ServiceFailure> {
        let unbuildable = |error: aws_smithy_types::error::operation::BuildError| ServiceFailure {
            kind: FailureKind::Other,
            operation: "DeleteObjects",
            status: None,
            code: None,
            message: error.to_string(),
            request_id: None,
            retry_after: None,
        };
        let object = |key: &String| ObjectIdentifier::builder().key(self.full(key)).build();
        let objects =
            keys.iter().map(object).collect::<Result<Vec<_>, _>>().map_err(unbuildable)?;
        Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(unbuildable)
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        Ok(self
            .list_objects(prefix, after, limit)
            .await?
            .into_iter()
            .map(|object| object.key)
            .collect())
    }

    pub(super) async fn list_objects(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ListedObject>, StorageError> {
        let mut found: Vec<ListedObject> = Vec::new();
        let mut continuation: Option<String> = None;
        while found.len() < limit {
            let page = self
                .calls
                .run(Operation::List, prefix, 0, || {
                    self.list_once(prefix, after, limit, continuation.clone())
                })
                .await?;
            found.extend(page.objects);
            continuation = match page.next {
                Some(next) => Some(next),
                None => break,
            };
        }
        // Sorted by the protocol; a service that is lax about it must not make a caller skip keys.
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    async fn list_once(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        continuation: Option<String>,
    ) -> Result<ListPage, ServiceFailure> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.full(prefix))
            .max_keys(i32::try_from(limit.min(PAGE)).unwrap_or(i32::MAX))
            .set_start_after(after.filter(|_| continuation.is_none()).map(|after| self.full(after)))
            .set_continuation_token(continuation);
        let answer = request.send().await.map_err(|error| from_sdk("ListObjectsV2", &error))?;
        let own = |key: &str| key.strip_prefix(&self.prefix).map(str::to_owned);
        // A service without `start-after` gives what comes before as well.
        let wanted = |key: &String| after.is_none_or(|after| key.as_str() > after);
        let listed = |object: &Object| {
            let key = object.key().and_then(own).filter(wanted)?;
            Some(ListedObject {
                key,
                len: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            })
        };
        let objects = answer.contents().iter().filter_map(listed).collect();
        let next = answer
            .next_continuation_token()
            .filter(|_| answer.is_truncated() == Some(true))
            .map(str::to_owned);
        Ok(ListPage { objects, next })
    }

    /// For how long the service is waited for from now on, should it not answer.
    pub(super) fn patience_left(&self) -> Duration {
        self.calls.patience_left()
    }

    /// Whether the latest attempts to read failed.
    pub(super) fn is_failing(&self) -> bool {
        self.calls.is_failing()
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// One answer of a listing.
struct ListPage {
    objects: Vec<ListedObject>,
    next: Option<String>,
}
