//! Snowbank from outside, as a user meets it: real processes, real Nix, a file per behaviour.
//!
//! Where `Server::start` runs them is decided by `SNOWBANK_TEST_SITE`; what is left out on replicas is listed in `nextest.toml`.

#![expect(clippy::similar_names, reason = "a pusher, and what it pushed")]

mod backup;
mod beside_a_running_server;
mod body_limit;
mod check_upstream;
mod client_killed;
mod clock;
mod collection;
mod damage;
mod damaged_path;
mod delete_and_copy;
mod different_path;
mod disk_full;
mod doctor;
mod expires;
mod first_deposit;
mod first_start;
mod installables;
mod last_use;
mod layers;
mod model;
mod next_version;
mod nix_files;
mod oidc;
mod operating_doc;
mod operators;
mod permissions;
mod pins;
mod postgres_restarted;
mod private_caches;
mod push_again;
mod races;
mod read_cache;
mod reading;
mod rebuild;
mod receipt_is_true_on_every_replica;
mod refused_bodies;
mod refused_bundles;
mod refused_chunks;
mod refused_nars;
mod refused_paths;
mod refused_tokens;
mod replica_killed;
mod replicas_start_together;
mod secrets_stay_secret;
mod server_killed;
mod server_trouble;
mod slots;
mod slow_readers;
mod storage_faults;
mod storage_gone;
mod storage_misconfigured;
mod storage_request_counts;
mod stores;
mod tiny_paths;
mod token_keys;
mod two_clients;
mod use_cache;
mod verify_receipts;
mod whoami;
mod wrong_arguments;
