//! `snowbankd cache …`

use std::process::ExitCode;

use super::Beside;
use super::cli::CacheCreateArgs;
use crate::admin::{self, CacheSpec};
use crate::clock::unix_now;
use crate::config::{Overrides, PublicUrl};

/// `snowbankd cache create`: makes it and prints its lines for nix.conf.
pub(super) async fn create(overrides: &Overrides, args: CacheCreateArgs) -> anyhow::Result<ExitCode> {
    let beside = Beside::open(overrides).await?;
    let spec = CacheSpec {
        name: args.name,
        public: args.public,
        isolated: args.isolated,
        compression_level: beside.config.compression.level,
        host: beside.config.public_url.as_ref().map(PublicUrl::host),
    };
    let created = admin::create_cache(&beside.db, &beside.sealer, &spec, unix_now()).await?;
    beside.db.close().await;
    let kind = if created.cache.public { "public" } else { "private" };
    // Where the server listens is its own affair, and may have been said on its command line.
    let base = beside.config.public_url.as_ref().map_or("http://SERVER", PublicUrl::as_str);
    println!("Created the {kind} cache `{}`. In nix.conf on machines that use it:", created.cache.name);
    println!("  extra-substituters = {base}/{}", created.cache.name);
    println!("  extra-trusted-public-keys = {}", created.public_key);
    Ok(ExitCode::SUCCESS)
}
