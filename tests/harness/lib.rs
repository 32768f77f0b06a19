//! The harness of the end-to-end tests: real `snowbankd` and `snowbank` processes, real Nix stores,
//! nginx, small file systems and killed processes, everything on loopback and in folders of the
//! test's own.
//!
//! A harness function that cannot do its work panics and says what it did and what came back: a
//! test that cannot run has failed. Nothing outlives a test: processes are ended by their ids when
//! their owner is dropped, folders are removed, and both are kept or printed where the test failed.
//! Every wait has a limit.
//!
//! A [`Server`] is one `snowbankd` with `SQLite` and a local folder, or, where `SNOWBANK_TEST_SITE`
//! says so, three of them on PostgreSQL and S3 behind a load balancer; the tests are the same.
//!
//! `SNOWBANK_TESTS_FULL=1` asks for the long counts, `SNOWBANK_TEST_SEED` repeats a random run,
//! `SNOWBANK_TEST_BIN` names the folder of the binaries (default: beside the test's own).
#![expect(
    clippy::missing_panics_doc,
    reason = "panicking with what went wrong is how a harness reports"
)]
#![expect(
    clippy::must_use_candidate,
    reason = "an assertion that also gives what it saw is called for either"
)]

pub mod ageing;
pub mod authority;
pub mod balancer;
pub mod client;
pub mod clock;
pub mod collection;
pub mod craft;
pub mod database;
pub mod honest;
pub mod hostile;
pub mod issuer;
pub mod loopback;
pub mod memory_limit;
pub mod netns;
pub mod nginx;
pub mod nix;
pub mod nobody;
pub mod oracle;
pub mod pins;
pub mod postgres;
pub mod process;
pub mod protocol;
pub mod pusher;
pub mod random;
pub mod rclone;
pub mod replica;
pub mod s3;
pub mod scratch;
pub mod server;
pub mod site;
mod slow_link;
pub mod storage_faults;
pub mod tmpfs;
pub mod token;
pub mod trees;

pub use self::{
    authority::Authority,
    client::{Client, Push},
    clock::FakeClock,
    collection::Gc,
    nginx::Nginx,
    nix::NixStore,
    process::Output,
    protocol::Api,
    pusher::Pusher,
    random::Random,
    replica::Replica,
    scratch::Scratch,
    server::Server,
    site::Site,
};

/// Whether the long counts are asked for (`tests/run --full`).
#[must_use]
pub fn full() -> bool {
    std::env::var_os("SNOWBANK_TESTS_FULL").is_some_and(|value| value == "1")
}

/// `many` in a full run, else `few`.
#[must_use]
pub fn count(few: usize, many: usize) -> usize {
    if full() { many } else { few }
}
