//! HTTP/1.1 servers and proxies inside the test process, each on a runtime of its own, so that
//! synchronous tests use them like any other server. Requests are handed on as they came: same
//! target, same headers, bodies as streams.

use std::{
    error::Error,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    client, server,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

/// Whatever went wrong.
pub type BoxError = Box<dyn Error + Send + Sync>;
/// A body on its way.
pub type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// How long the rest of a body is still read when nobody wants it any more, so that its sender gets
/// to read the answer.
const LINGER: Duration = Duration::from_secs(2);

/// What answers requests.
pub trait Handle: Send + Sync + 'static {
    /// Answers one; an error closes the connection.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<AnyBody>, BoxError>> + Send;
}

/// A server on a loopback address of its own. Everything under way is cut when it is dropped.
pub struct Loopback<H> {
    handler: Arc<H>,
    address: SocketAddr,
    accepting: Mutex<Option<JoinHandle<()>>>,
    runtime: Option<Runtime>,
}

impl<H: Handle> Loopback<H> {
    /// Listens on `address`.
    #[must_use]
    pub fn start(address: SocketAddr, handler: H) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("no runtime: {e}"));
        let server = Self {
            handler: Arc::new(handler),
            address,
            accepting: Mutex::new(None),
            runtime: Some(runtime),
        };
        server.open();
        server
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What answers.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// Listens again after [`Self::close`].
    pub fn open(&self) {
        let runtime = self
            .runtime
            .as_ref()
            .unwrap_or_else(|| panic!("a server that has not been dropped runs"));
        let listener = runtime.block_on(TcpListener::bind(self.address));
        let listener =
            listener.unwrap_or_else(|e| panic!("cannot listen on {}: {e}", self.address));
        let task = runtime.spawn(accept(listener, Arc::clone(&self.handler)));
        *lock(&self.accepting) = Some(task);
    }

    /// Cuts every connection and refuses new ones.
    pub fn close(&self) {
        let task = lock(&self.accepting).take();
        if let (Some(task), Some(runtime)) = (task, &self.runtime) {
            task.abort();
            // Cancelled, as asked for.
            let _ = runtime.block_on(task);
        }
    }
}

impl<H> fmt::Debug for Loopback<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<H> Drop for Loopback<H> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A lock whose holder may have panicked: what it guards is counters and settings, good at any
/// moment.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept<H: Handle>(listener: TcpListener, handler: Arc<H>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it every exchange waits for a delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let handler = Arc::clone(&handler);
        let service = service_fn(move |request| Arc::clone(&handler).handle(request));
        connections.spawn(async move {
            // A connection that breaks is the client's to notice.
            let _ = server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A body of bytes at hand.
pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that arrives.
pub fn incoming(body: Incoming) -> AnyBody {
    body.map_err(BoxError::from).boxed_unsync()
}

/// Hands a request on over a connection that has just been made, and gives the answer as it begins
/// to arrive.
///
/// # Errors
/// When the other end closes the connection before it has answered.
pub async fn forward(
    stream: TcpStream,
    request: Request<AnyBody>,
) -> Result<Response<AnyBody>, BoxError> {
    // Harmless when it fails: only slower.
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's body, or when that is dropped.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    // The sender keeps the connection alive while the body is read.
    Ok(Response::from_parts(head, Holding { body: incoming(body), _held: sender }.boxed_unsync()))
}

struct Holding<T> {
    body: AnyBody,
    _held: T,
}

impl<T: Unpin> Body for Holding<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The same body, read to its end even when its reader has gone away, for at most `LINGER` from
/// then: whoever sends a large body and is refused early then gets to read the refusal, instead of
/// a reset connection.
pub fn lingering(body: Incoming) -> AnyBody {
    let hint = body.size_hint();
    if body.is_end_stream() {
        return full(Bytes::new());
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(pump(body, sender));
    Piped { receiver, hint }.boxed_unsync()
}

async fn pump(mut body: Incoming, sender: mpsc::Sender<Result<Frame<Bytes>, BoxError>>) {
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = sender.closed() => break,
        };
        let Some(frame) = frame else { return };
        if sender.send(frame.map_err(BoxError::from)).await.is_err() {
            break;
        }
    }
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whether it ended or took too long, there is nothing more to do for it.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

struct Piped {
    receiver: mpsc::Receiver<Result<Frame<Bytes>, BoxError>>,
    hint: SizeHint,
}

impl Body for Piped {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.receiver.poll_recv(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

/// What becomes of a body once `left` bytes of it have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The connection is cut.
    Cut,
    /// Nothing more comes.
    Stall,
}

/// A body that goes wrong after `left` bytes.
pub fn broken(body: AnyBody, left: u64, how: Break) -> AnyBody {
    Broken { body, left, how }.boxed_unsync()
}

struct Broken {
    body: AnyBody,
    left: u64,
    how: Break,
}

impl Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return match self.how {
                Break::Cut => Poll::Ready(Some(Err("cut here, on purpose".into()))),
                Break::Stall => Poll::Pending,
            };
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(mut data) => {
                    data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= data.len() as u64;
                    Frame::data(data)
                }
                Err(other) => other,
            })
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
