//! How a collection is run.

use clap::Args;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::collection::GcRequest;

/// The flags of `gc`.
#[derive(Debug, Clone, Copy, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, independent of the others"
)]
pub struct GcArgs {
    /// Say what would go, why, and how much that would free; remove nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Leave alone what nothing has needed for less than this [default: the server's `[gc] grace`]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<Seconds>,
    /// Rewrite no packs
    #[arg(long)]
    pub no_compact: bool,
    /// Believe the clock although it has jumped
    #[arg(long)]
    pub trust_clock: bool,
    /// Do not ask, which `--grace 0s` does otherwise
    #[arg(long)]
    pub yes: bool,
}

impl GcArgs {
    /// The question to ask before the collection, if there is one.
    #[must_use]
    pub fn question(self) -> Option<&'static str> {
        let asks = self.grace == Some(Seconds::new(0)) && !self.dry_run && !self.yes;
        asks.then_some(
            "Without a grace period, what pushes under way have sent so far goes as well, and they \
             send it again.",
        )
    }

    /// The warning about a short grace period, if there is no question about it.
    #[must_use]
    pub fn warning(self) -> Option<&'static str> {
        let warns = self.grace.is_some() && !self.dry_run && self.question().is_none();
        warns.then_some("pushes that take longer than --grace may have to send chunks again")
    }

    /// As a message.
    #[must_use]
    pub const fn into_request(self) -> GcRequest {
        let Self { dry_run, grace, no_compact, trust_clock, yes: _ } = self;
        GcRequest { dry_run, grace, no_compact, trust_clock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_collection_without_a_grace_period_asks() {
        let zero = GcArgs { grace: Some(Seconds::new(0)), ..GcArgs::default() };
        assert!(zero.question().is_some() && zero.warning().is_none());
        for calm in
            [GcArgs { dry_run: true, ..zero }, GcArgs { yes: true, ..zero }, GcArgs::default()]
        {
            assert!(calm.question().is_none(), "{calm:?}");
        }
        let short = GcArgs { grace: Some(Seconds::new(60)), ..GcArgs::default() };
        assert!(short.question().is_none() && short.warning().is_some());
        assert!(GcArgs::default().warning().is_none());
    }
}
