//! Sockets that connect and never come to the point.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use super::{
    Attack, PAUSE,
    connection::{Line, get},
    tally::Counters,
};

/// HTTP/2's connection preface, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Pause between two bytes of a head.
const DRIP: Duration = Duration::from_secs(1);

/// How a socket is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It sends nothing.
    Nothing,
    /// It sends the head of an HTTP/1 request, a byte a second, for ever.
    DrippedHead,
    /// It sends the first half of HTTP/2's preface.
    PartOfPreface,
    /// It makes one request over HTTP/1, reads the answer, and sends nothing more.
    AfterOneRequest,
    /// It begins HTTP/2 as it should, and opens no stream.
    NoStream,
}

impl Attack {
    /// Sends in `count` silent sockets.
    pub fn silent(&self, count: usize, silence: Silence) {
        self.send_in(count, move |number, line| stay(number, line, silence));
    }
}

async fn stay(number: usize, line: Arc<Line>, silence: Silence) {
    loop {
        if let Ok(stream) = line.connect(number).await {
            // Ends when the server ends it.
            let _ = hold(stream, silence).await;
            Counters::add(&line.counters.closed);
        }
        sleep(PAUSE).await;
    }
}

async fn hold(mut stream: TcpStream, silence: Silence) -> std::io::Result<()> {
    let opening = match silence {
        Silence::Nothing => Vec::new(),
        Silence::DrippedHead => {
            b"GET /main/nix-cache-info HTTP/1.1\r\nHost: snowbank\r\nX-Drip: ".to_vec()
        }
        Silence::PartOfPreface => PREFACE[..12].to_vec(),
        Silence::AfterOneRequest => get("/main/nix-cache-info"),
        Silence::NoStream => PREFACE.to_vec(),
    };
    stream.write_all(&opening).await?;
    let (mut reading, mut writing) = stream.split();
    let mut buffer = [0; 1024];
    loop {
        tokio::select! {
            read = reading.read(&mut buffer) => if read? == 0 { return Ok(()) },
            () = sleep(DRIP), if silence == Silence::DrippedHead => writing.write_all(b"x").await?,
        }
    }
}
