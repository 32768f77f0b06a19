//! The `snowbank` client as a library: everything but the process's entry point, so that tests can
//! call it.
//!
//! Arrows fall one way: `commands` → `watch` → `queue` → `push` → {`api`, `ci`, `store`, `nix`} →
//! `config` → `exit`. `cli` holds clap types only and knows none of them. Arguments and tables that the
//! server's commands have as well are in `snowbank-cli`. `fuzzing` is for tests alone.

pub mod api;
pub mod ci;
pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
#[doc(hidden)]
pub mod fuzzing;
pub mod nix;
pub mod progress;
pub mod push;
pub mod queue;
pub mod store;
pub mod watch;
