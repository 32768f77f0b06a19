//! How long a pin holds, and how much of its history is kept.

use clap::Args;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::pins::MAX_KEPT;

/// How long a pin holds, and how much of its history is kept.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct PinKeepArgs {
    /// Keep the paths of so many generations of the name [default: as many as before, 5 for a new
    /// name]
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_KEPT)))]
    pub keep: Option<u32>,
    /// For how long the pin holds, such as 90d [default: until it is removed]
    #[arg(long, value_name = "TIME", value_parser = parse_nonzero_time)]
    pub expires: Option<Seconds>,
}

/// A length of time above zero, for clap.
///
/// # Errors
/// The reason, for people, why the text is no such length.
pub fn parse_nonzero_time(text: &str) -> Result<Seconds, String> {
    match text.parse::<Seconds>() {
        Ok(time) if time.get() == 0 => {
            Err("it would be over at once; give a time such as 24h".to_owned())
        }
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
