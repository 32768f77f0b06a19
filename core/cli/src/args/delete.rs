//! How paths are deleted.

use clap::Args;
use snowbank_core::wire::admin::DeletePaths;

/// The flags of `delete`.
#[derive(Debug, Clone, Copy, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, independent of the others"
)]
pub struct DeleteFlags {
    /// Delete what they refer to as well, as far as nothing else in the cache needs it
    #[arg(long)]
    pub closure_of: bool,
    /// Delete what refers to them as well; without this, such paths are a reason to refuse
    #[arg(long)]
    pub referrers: bool,
    /// Say what would go, and delete nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

impl DeleteFlags {
    /// Whether the command shows the answer to a dry run and asks before it deletes.
    #[must_use]
    pub const fn asks(self) -> bool {
        !self.dry_run && !self.yes
    }

    /// As a message about `paths`: a dry run if the command asks first.
    #[must_use]
    pub fn into_request(self, paths: Vec<String>) -> DeletePaths {
        let dry_run = self.dry_run || self.asks();
        DeletePaths { paths, closure: self.closure_of, referrers: self.referrers, dry_run }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleting_is_a_dry_run_until_somebody_agrees() {
        let asks = DeleteFlags::default();
        assert!(asks.asks() && asks.into_request(Vec::new()).dry_run);
        let agreed = DeleteFlags { yes: true, ..asks };
        assert!(!agreed.asks() && !agreed.into_request(Vec::new()).dry_run);
    }
}
