//! Requests without end: each client asks again as soon as it has its answer.

use std::sync::Arc;

use tokio::time::sleep;

use super::{
    Attack, PAUSE,
    connection::{Line, exchange},
    tally::Counters,
};

/// Room for an answer's head, and for its body in pieces.
const BUFFER: usize = 64 << 10;

impl Attack {
    /// Sends in `count` clients that send `request` over HTTP/1 and read the answer, over and over.
    pub fn asking(&self, count: usize, request: &Arc<Vec<u8>>) {
        self.send_in(count, |number, line| ask(number, line, Arc::clone(request)));
    }
}

async fn ask(number: usize, line: Arc<Line>, request: Arc<Vec<u8>>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        if let Ok(mut stream) = line.connect(number).await {
            while let Ok(read) = exchange(&mut stream, &request, &mut buffer).await {
                line.counters.status(read.status);
                if read.status >= 400 {
                    sleep(PAUSE).await;
                }
            }
            Counters::add(&line.counters.closed);
        }
        sleep(PAUSE).await;
    }
}
