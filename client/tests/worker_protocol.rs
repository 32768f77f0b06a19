//! The worker protocol against daemons of other versions, and against what is no daemon: played by
//! a thread.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use snowbank_client::store::{Store, StoreError, StoreOptions};
use snowbank_core::store_path::StorePath;
use tempfile::TempDir;

const NAME: &str = "00000000000000000000000000000000-x";

/// What a daemon does on one connection.
type Part = Box<dyn FnOnce(Wire) + Send>;

/// One end of the protocol, with the daemon's words.
struct Wire(UnixStream);

impl Wire {
    fn get(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn get_string(&mut self) -> String {
        let len = usize::try_from(self.get()).unwrap();
        let mut bytes = vec![0; len.next_multiple_of(8)];
        self.0.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    fn put(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.0.write_all(&number.to_le_bytes()).unwrap();
        }
    }

    fn put_string(&mut self, text: &str) {
        self.put(&[text.len() as u64]);
        self.0.write_all(text.as_bytes()).unwrap();
        self.0.write_all(&[0; 8][..text.len().next_multiple_of(8) - text.len()]).unwrap();
    }

    /// The daemon's part of a handshake; what the client says it speaks.
    fn greet(&mut self, minor: u64) -> u64 {
        assert_eq!(self.get(), 0x6e69_7863);
        self.put(&[0x6478_696f, 256 + minor]);
        let theirs = self.get();
        assert_eq!((self.get(), self.get()), (0, 0), "CPU affinity and reserved space");
        if minor >= 33 {
            self.put_string("2.99");
        }
        self.last();
        theirs
    }

    fn last(&mut self) {
        self.put(&[0x616c_7473]);
    }

    /// Every message that may come before an answer.
    fn chatter(&mut self) {
        self.put(&[0x6f6c_6d67]);
        self.put_string("\u{1b}[1mwarning\u{1b}[0m");
        self.put(&[0x5354_5254, 1, 2, 3]);
        self.put_string("doing");
        self.put(&[2, 0, 7, 1]);
        self.put_string("field");
        self.put(&[0]);
        self.put(&[0x5253_4c54, 1, 105, 1, 0, 9]);
        self.put(&[0x5354_4f50, 1]);
        self.put(&[0x6461_7416]);
        self.put_string("output");
    }

    fn path_info_request(&mut self) -> String {
        assert_eq!(self.get(), 26);
        self.get_string()
    }

    fn path_info(&mut self) {
        self.put(&[1]);
        self.put_string("");
        self.put_string(&"ab".repeat(32));
        self.put(&[1]);
        self.put_string(&format!("/nix/store/{NAME}"));
        self.put(&[1_700_000_000, 120, 1, 1]);
        self.put_string("future-1:a signature of another kind");
        self.put_string("");
    }
}

/// Plays `daemon` on one connection after the other, as many as it gives.
fn play(daemon: Vec<Part>) -> (TempDir, StoreOptions, JoinHandle<()>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let thread = std::thread::spawn(move || {
        for part in daemon {
            part(Wire(listener.accept().unwrap().0));
        }
    });
    let uri = format!("unix://{}", socket.display());
    (folder, StoreOptions { uri: Some(uri) }, thread)
}

fn path() -> StorePath {
    StorePath::from_base_name(NAME).unwrap()
}

#[tokio::test]
async fn older_and_newer_daemons_are_understood() {
    for minor in [21, 32, 34, 35, 38, 99] {
        let (_folder, options, daemon) = play(vec![Box::new(move |mut wire| {
            assert_eq!(wire.greet(minor), 256 + 34);
            assert_eq!(wire.path_info_request(), format!("/nix/store/{NAME}"));
            wire.chatter();
            wire.last();
            wire.path_info();
            assert_eq!(wire.get(), 31);
            assert_eq!((wire.get(), wire.get_string()), (1, format!("/nix/store/{NAME}")));
            if minor >= 27 {
                assert_eq!(wire.get(), 0, "nothing is to be substituted");
            }
            wire.last();
            wire.put(&[0]);
        })]);
        let store = Store::open(options).await.unwrap();
        let info = store.path_infos(&[path()]).await.unwrap().remove(0).unwrap();
        assert_eq!((info.nar_hash.as_bytes(), info.nar_size), (&[0xab; 32], 120));
        assert_eq!(
            (info.references, info.registration_time, info.ultimate),
            (vec![path()], 1_700_000_000, true)
        );
        assert!(info.signatures.is_empty() && info.ca.is_none() && info.deriver.is_none());
        assert!(store.valid_paths(&[path()]).await.unwrap().is_empty());
        daemon.join().unwrap();
    }
}

#[tokio::test]
async fn an_error_is_told_and_the_next_question_asked_anew() {
    for minor in [21, 34] {
        let (_folder, options, daemon) = play(vec![
            Box::new(move |mut wire| {
                wire.greet(minor);
                wire.path_info_request();
                wire.put(&[0x6378_7470]);
                if minor >= 26 {
                    wire.put_string("Error");
                    wire.put(&[0]);
                    wire.put_string("Error");
                    wire.put_string("the \u{1b}[31mdisk\u{1b}[0m is gone");
                    wire.put(&[0, 1, 0]);
                    wire.put_string("while looking");
                } else {
                    wire.put_string("the disk is gone");
                    wire.put(&[1]);
                }
            }),
            Box::new(move |mut wire| {
                wire.greet(minor);
                wire.path_info_request();
                wire.last();
                wire.put(&[0]);
            }),
        ]);
        let store = Store::open(options).await.unwrap();
        let error = store.path_infos(&[path()]).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Nix(_)) && error.to_string().contains("the disk is gone"),
            "{error}"
        );
        assert_eq!(store.path_infos(&[path()]).await.unwrap(), [None]);
        daemon.join().unwrap();
    }
}

#[tokio::test]
async fn a_question_that_is_given_up_leaves_nothing_behind() {
    let (_folder, options, daemon) = play(vec![
        Box::new(|mut wire| {
            wire.greet(34);
            wire.path_info_request();
            // No answer: the client goes away.
            assert_eq!(wire.0.read(&mut [0; 8]).unwrap(), 0);
        }),
        Box::new(|mut wire| {
            wire.greet(34);
            wire.path_info_request();
            wire.last();
            wire.put(&[0]);
        }),
    ]);
    let store = Store::open(options).await.unwrap();
    let patience = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(patience, store.path_infos(&[path()])).await.is_err());
    assert_eq!(store.path_infos(&[path()]).await.unwrap(), [None]);
    daemon.join().unwrap();
}

#[tokio::test]
async fn what_is_no_daemon_is_refused() {
    let cases: Vec<(Part, &str)> = vec![
        (Box::new(|mut wire| wire.put(&[0x2031_2e31_2f50_5454])), "no Nix daemon"),
        (Box::new(|mut wire| wire.put(&[0x6478_696f, 256 + 20])), "protocol 1.20"),
        (Box::new(|mut wire| wire.put(&[0x6478_696f, 2 * 256])), "protocol 2.0"),
        (Box::new(|mut wire| wire.put(&[0x6478_696f, 256 + 34, u64::MAX])), "bytes; at most"),
        (
            Box::new(|mut wire| wire.put(&[0x6478_696f, 256 + 32, 0xdead])),
            "unknown message, 0xdead",
        ),
        (Box::new(|mut wire| wire.put(&[0x6478_696f, 256 + 32, 0x6461_7461, 8])), "asks for data"),
        (Box::new(drop), "lost the connection"),
    ];
    for (part, want) in cases {
        let (_folder, options, daemon) = play(vec![Box::new(|mut wire| {
            assert_eq!(wire.get(), 0x6e69_7863);
            let mut end = Wire(wire.0.try_clone().unwrap());
            part(wire);
            // Until the client has read what it was sent, and is gone.
            let _ = end.0.shutdown(std::net::Shutdown::Write);
            let _ = end.0.read_to_end(&mut Vec::new());
        })]);
        let error = Store::open(options).await.err().unwrap().to_string();
        assert!(error.contains(want), "{want}: {error}");
        daemon.join().unwrap();
    }
}
