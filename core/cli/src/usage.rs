//! Errors of the command line, without the tokens in it.

use snowbank_core::token::{hide_tokens, looks_like_token};

/// The same error with `[token]` in the place of each token: clap repeats arguments that it does
/// not understand.
#[must_use]
pub fn hide_in_usage(error: clap::Error) -> clap::Error {
    let text = error.render().to_string();
    if !looks_like_token(&text) {
        return error;
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    clap::Error::raw(error.kind(), hide_tokens(text))
}
