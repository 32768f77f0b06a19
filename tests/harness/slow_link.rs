//! A link of few bytes per second, which all bodies share that pass over it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::loopback::{AnyBody, BoxError, lock};

/// Bytes that pass at once.
const PIECE_BYTES: usize = 16 * 1024;
/// How late a busy machine may wake a body without the link losing that time.
const SLACK: Duration = Duration::from_millis(200);

/// The link. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlowLink(Arc<Mutex<Option<Instant>>>);

impl SlowLink {
    /// `body` over this link, at `rate` bytes per second; 0 for no limit.
    pub(crate) fn slow(&self, body: AnyBody, rate: u64) -> AnyBody {
        if rate == 0 {
            return body;
        }
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        AnyBody::new(SlowBody { body, link: self.clone(), rate, rest: Bytes::new(), sleep })
    }

    /// Takes the link for so many bytes; gives when they have passed.
    fn take(&self, bytes: usize, rate: u64) -> Instant {
        let mut free_at = lock(&self.0);
        let now = Instant::now();
        let begins_at = free_at.unwrap_or(now).max(now.checked_sub(SLACK).unwrap_or(now));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let ends_at =
            begins_at + Duration::from_secs(1) * bytes / u32::try_from(rate).unwrap_or(u32::MAX);
        *free_at = Some(ends_at);
        ends_at
    }
}

struct SlowBody {
    body: AnyBody,
    link: SlowLink,
    rate: u64,
    /// What has come and did not pass yet.
    rest: Bytes,
    sleep: Pin<Box<Sleep>>,
}

impl Body for SlowBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        ready!(this.sleep.as_mut().poll(cx));
        while this.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            match frame?.into_data() {
                Ok(bytes) => this.rest = bytes,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        let passed_at = this.link.take(piece.len(), this.rate);
        this.sleep.as_mut().reset(passed_at);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, own) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + own);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + own);
        }
        hint
    }
}
