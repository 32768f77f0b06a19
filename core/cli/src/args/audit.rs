//! The entries of the audit log that a command shows.

use clap::Args;
use snowbank_core::wire::admin::AuditQuery;

/// The filters of `audit`.
#[derive(Debug, Clone, Default, Args)]
pub struct AuditQueryArgs {
    /// Only what this subject did
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Only what concerned this cache
    #[arg(long, value_name = "CACHE")]
    pub cache: Option<String>,
    /// Only this action, such as `token.create`; with `*` at its end, all that begin so
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Also `push.chunks`, of which a push has many; `--action push.chunks` shows nothing else
    #[arg(long)]
    pub all: bool,
    /// At most so many entries, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Only entries before this one
    #[arg(long, value_name = "ID")]
    pub before: Option<i64>,
}

impl AuditQueryArgs {
    /// As a message, which leaves `push.chunks` out unless it is asked for.
    #[must_use]
    pub fn into_query(self) -> AuditQuery {
        let Self { subject, cache, action, all, limit, before } = self;
        let without = (!all && action.is_none()).then(|| "push.chunks".to_owned());
        AuditQuery { subject, cache, action, without, limit, before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunks_of_pushes_are_shown_on_demand() {
        let usual = AuditQueryArgs::default();
        assert_eq!(usual.clone().into_query().without.as_deref(), Some("push.chunks"));
        let all = AuditQueryArgs { all: true, ..usual.clone() };
        assert_eq!(all.into_query().without, None);
        let chunks = AuditQueryArgs { action: Some("push.chunks".to_owned()), ..usual };
        assert_eq!(chunks.into_query().without, None);
    }
}
