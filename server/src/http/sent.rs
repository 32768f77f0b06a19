//! The body of every response, as it leaves: it holds the request's place, and notes on HTTP/2
//! whether its client takes what it is handed. There a response may stand still while its
//! connection does not, so that the socket tells nothing of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::admission::{Ending, OpenResponse, RequestPlace};

/// Bytes that are handed over at once. What a stream has been handed stays in memory until its
/// client makes room for it.
pub(super) const MAX_PIECE_BYTES: usize = 64 * 1024;

/// A response's body and what is known of the response.
#[derive(Debug)]
pub(super) struct SentBody {
    body: Body,
    /// What is left of a piece that was too large.
    rest: Bytes,
    response: Option<Arc<OpenResponse>>,
    place: Option<RequestPlace>,
}

impl SentBody {
    /// `ending` is given on HTTP/2.
    pub(super) fn new(body: Body, place: Option<RequestPlace>, ending: Option<Ending>) -> Self {
        let watched = place.as_ref().zip(ending.filter(|_| !body.is_end_stream()));
        let response = watched.map(|(place, ending)| place.open_response(ending));
        Self { body, rest: Bytes::new(), response, place }
    }

    /// What may be handed over of `bytes` now; the rest comes next.
    fn piece(&mut self, mut bytes: Bytes) -> Bytes {
        if self.response.is_some() && bytes.len() > MAX_PIECE_BYTES {
            self.rest = bytes.split_off(MAX_PIECE_BYTES);
        }
        bytes
    }
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(response) = &self.response {
            response.note_taken();
        }
        let frame = if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => Frame::data(self.piece(bytes)),
                    Err(trailers) => trailers,
                },
                other => return other,
            }
        } else {
            let rest = std::mem::take(&mut self.rest);
            Frame::data(self.piece(rest))
        };
        if let Some(response) = &self.response {
            response.note_handed();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut all = SizeHint::new();
        all.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + rest);
        }
        all
    }
}

impl Drop for SentBody {
    fn drop(&mut self) {
        if let (Some(place), Some(response)) = (&self.place, &self.response) {
            place.close_response(response);
        }
    }
}
