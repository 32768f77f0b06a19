//! `snowbankd token …`

use std::collections::BTreeMap;
use std::process::ExitCode;

use snowbank_core::cache_name::CachePattern;

use super::Beside;
use super::cli::TokenCreateArgs;
use crate::admin::{self, TokenSpec};
use crate::auth::{Grants, Permission};
use crate::clock::unix_now;
use crate::config::Overrides;

/// `snowbankd token create`: the token alone on standard output.
pub(super) async fn create(overrides: &Overrides, args: TokenCreateArgs) -> anyhow::Result<ExitCode> {
    let beside = Beside::open(overrides).await?;
    let mut caches: BTreeMap<CachePattern, Vec<Permission>> = BTreeMap::new();
    for (patterns, permission) in [(args.pull, Permission::Pull), (args.push, Permission::Push)] {
        for pattern in patterns {
            caches.entry(pattern).or_default().push(permission);
        }
    }
    let grants = Grants { caches, admin: false };
    let spec = TokenSpec { subject: args.sub, grants, lifetime: args.expires };
    let token = admin::create_token(&beside.db, &beside.sealer, spec, unix_now()).await?;
    beside.db.close().await;
    println!("{}", token.expose());
    Ok(ExitCode::SUCCESS)
}
