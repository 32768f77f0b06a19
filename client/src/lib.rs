//! The `snowbank` client as a library: everything but the process's entry point, so that tests can
//! call it.
//!
//! Arrows fall one way: `commands` → `queue` → `push` → {`api`, `store`, `nix`} → `config` →
//! `exit`; `cli` holds clap types only and knows none of them, nor does `date`.

pub mod api;
pub mod cli;
pub mod commands;
pub mod config;
pub mod date;
pub mod exit;
pub mod nix;
pub mod progress;
pub mod push;
pub mod queue;
pub mod store;
