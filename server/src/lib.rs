//! The server of Snowbank, a self-hosted Nix binary cache: everything behind the binary
//! `snowbankd`.
//!
//! Modules depend on each other in one direction only: commands → http → integrity → {ingest,
//! serving, gc, admin} → damage → {auth, pack} → {chain, directory} → {admission, db, storage} →
//! {config, files, listen, systemd}. `db` holds the only SQL, `storage` the only object I/O, `http`
//! the only status codes.

pub mod admin;
pub mod admission;
pub mod app;
pub mod auth;
pub mod chain;
pub mod clock;
pub mod commands;
pub mod config;
pub mod damage;
pub mod db;
pub mod directory;
pub mod fault;
pub mod files;
pub mod gc;
pub mod http;
pub mod ingest;
pub mod integrity;
pub mod listen;
pub mod pack;
pub mod secrets;
pub mod serving;
pub mod storage;
pub mod systemd;
pub mod telemetry;
