//! A response of JSON lines that is written while the work goes on, with a heartbeat line when
//! there is nothing to say.
//!
//! The work is a task of its own, which waits for the client only where it hands over a line, and
//! then holds no transaction and no connection: a client that does not read would otherwise keep
//! what others need. It waits for so long only: lines that were not taken within `[limits]
//! answer-timeout` end the work at its next line, and the answer without its last one. So what was
//! done stays done, although its client was not told, and what was not yet begun is not done; a
//! client that finds no last line asks again, and is told. Lines that wait are counted against the
//! memory for answers.
//!
//! When the client goes away the body is dropped, and the work with it, at its next await.
//! Transactions that were not committed roll back.

use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use snowbank_core::wire::CommitLine;
use snowbank_core::wire::admin::collection::GcLine;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::answer::{Answers, encode};
use crate::admission::count_hit;

/// No proxy's idle timeout is shorter than this.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines that wait for the client; more, and the work waits.
const LINES_AHEAD: usize = 64;
/// Lines that wait to be counted.
const LINES_MADE: usize = 4;

/// A line of an answer.
pub(super) trait Line: Serialize + Send + Sync + 'static {
    /// The most bytes that it may have.
    fn most_bytes(&self) -> u64;
}

/// Work that writes lines, begun.
#[derive(Debug)]
pub(super) struct Lines {
    lines: mpsc::Receiver<Bytes>,
    tasks: [AbortOnDropHandle<()>; 2],
}

impl Lines {
    /// Begins `work`, which sends its lines; `note` is told of each. They wait for the client for
    /// `patience` at most, counted against `answers`.
    pub(super) fn begin<L, N, F, W>(answers: Answers, patience: Duration, note: N, work: F) -> Self
    where
        L: Line,
        N: Fn(&L) + Send + Sync + 'static,
        F: FnOnce(mpsc::Sender<L>) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        let (sender, made) = mpsc::channel(LINES_MADE);
        let (handed, lines) = mpsc::channel(LINES_AHEAD);
        let work = tokio::spawn(work(sender).in_current_span());
        let hand_over = hand_over(made, handed, answers, patience, note).in_current_span();
        let hand_over = tokio::spawn(hand_over);
        Self { lines, tasks: [work, hand_over].map(AbortOnDropHandle::new) }
    }

    /// Streams the lines, and `heartbeat` where there are none for a while.
    pub(super) fn response(self, heartbeat: &impl Line) -> Response {
        let Self { mut lines, tasks } = self;
        let heartbeat = line(heartbeat).map(Bytes::from);
        let mut clock =
            tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        let lines = stream::poll_fn(move |context| {
            let _end_with_the_body = &tasks;
            match lines.poll_recv(context) {
                Poll::Ready(Some(line)) => {
                    clock.reset();
                    Poll::Ready(Some(Ok::<_, std::convert::Infallible>(line)))
                }
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => clock.poll_tick(context).map(|_| heartbeat.clone().map(Ok)),
            }
        });
        let mut response = Response::new(Body::from_stream(lines));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // nginx would hold lines back until a buffer is full.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

/// Takes each line once there is memory for it and room in the line; that the client does not read
/// is seen here.
async fn hand_over<L: Line>(
    mut made: mpsc::Receiver<L>,
    handed: mpsc::Sender<Bytes>,
    answers: Answers,
    patience: Duration,
    note: impl Fn(&L) + Send + Sync,
) {
    while let Some(line) = made.recv().await {
        note(&line);
        let hand = async {
            let room = answers.room(line.most_bytes(), patience).await.ok()?;
            handed.send(encode(&line, b"\n", room).ok()?).await.ok()
        };
        match tokio::time::timeout(patience, hand).await {
            Ok(Some(())) => {}
            // The work ends where it hands over its next line.
            Ok(None) => return,
            Err(_) => {
                count_hit("answer-timeout");
                return;
            }
        }
    }
}

fn line(line: &impl Line) -> Option<Vec<u8>> {
    let mut text = serde_json::to_vec(line).ok()?;
    text.push(b'\n');
    Some(text)
}

/// What a text takes in JSON at most: `\u0000` for each byte.
fn escaped(text: &str) -> u64 {
    6 * text.len() as u64
}

impl Line for CommitLine {
    fn most_bytes(&self) -> u64 {
        256 + match self {
            Self::Receipt(receipt) => {
                512 + escaped(&receipt.store_path)
                    + escaped(&receipt.cache)
                    + 512 * receipt.signatures.len() as u64
            }
            Self::ChunksMissing { store_path, missing } => {
                escaped(store_path) + 68 * missing.len() as u64
            }
            Self::Different { store_path, .. } => escaped(store_path),
            Self::Error { store_path, code, message } => {
                escaped(store_path) + escaped(code) + escaped(message)
            }
            Self::Heartbeat | Self::End { .. } => 256,
        }
    }
}

impl Line for GcLine {
    fn most_bytes(&self) -> u64 {
        256 + match self {
            Self::Progress { text } | Self::Failed { message: text } => escaped(text),
            Self::Report(report) => 4096 + 1024 * (report.caches.len() + report.going.len()) as u64,
        }
    }
}
