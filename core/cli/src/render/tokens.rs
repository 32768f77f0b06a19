//! Tokens, as operators read them.

use std::fmt;

use snowbank_core::wire::admin::{RevokedTokens, TokenInfo, TokenList};

use super::Render;
use crate::date::{day, now, utc, utc_or_never};
use crate::table::plain;

/// Whether a token is valid, and since or until which day.
fn state(token: &TokenInfo, now: i64) -> String {
    match token.revoked {
        Some(at) if at <= now => format!("revoked {}", day(at)),
        Some(at) if at < token.expires => format!("until {}", day(at)),
        _ if token.expires <= now => format!("expired {}", day(token.expires)),
        _ => format!("until {}", day(token.expires)),
    }
}

/// Two lines for each token, as wide as a terminal: `token show` has the rest.
impl Render for TokenList {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = now();
        write!(f, "{:<32}  {:<18}  {:<10}  SUBJECT", "ID", "STATE", "LAST USED")?;
        for token in &self.tokens {
            let used = token.last_used.map_or_else(|| "never".to_owned(), day);
            write!(
                f,
                "\n{:<32}  {:<18}  {used:<10}  {}",
                token.id,
                state(token, now),
                plain(&token.subject)
            )?;
            write!(f, "\n    {}", token.grants)?;
            if !token.label.is_empty() {
                write!(f, "  ({})", plain(&token.label))?;
            }
        }
        Ok(())
    }
}

impl Render for TokenInfo {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "id           {}", self.id)?;
        writeln!(f, "subject      {}", plain(&self.subject))?;
        writeln!(f, "label        {}", plain(&self.label))?;
        writeln!(f, "permissions  {}", self.grants)?;
        writeln!(f, "key          {}", self.key_id)?;
        writeln!(f, "created      {} by {}", utc(self.created), plain(&self.created_by))?;
        writeln!(f, "last used    {}", utc_or_never(self.last_used))?;
        let over = if self.expires <= now() { " (expired)" } else { "" };
        write!(f, "expires      {}{over}", utc(self.expires))?;
        self.revoked.map_or(Ok(()), |at| write!(f, "\nrevoked      {}", utc(at)))
    }
}

impl Render for RevokedTokens {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.within_seconds;
        if self.tokens == 0 {
            return write!(
                f,
                "Noted, but no valid token of this server's is concerned: what was named is over, \
                 revoked already, or another issuer's. Every server refuses it within {seconds} s."
            );
        }
        write!(
            f,
            "Revoked; {} valid token(s) of this server's are concerned. Every server refuses them \
             within {seconds} s.",
            self.tokens
        )
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::wire::admin::TokenGrants;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    fn token(expires: i64, revoked: Option<i64>) -> TokenInfo {
        TokenInfo {
            id: "4e493e15002a0ebf83e98ec5d6081244".to_owned(),
            subject: "ci-blog".to_owned(),
            label: String::new(),
            grants: TokenGrants::default(),
            key_id: "k".to_owned(),
            created: 0,
            created_by: "host".to_owned(),
            expires,
            last_used: Some(NOW),
            revoked,
        }
    }

    #[test]
    fn what_is_over_is_marked() {
        assert_eq!(state(&token(NOW + DAY, None), NOW), "until 2027-01-16");
        assert_eq!(state(&token(NOW, None), NOW), "expired 2027-01-15");
        assert_eq!(state(&token(NOW + DAY, Some(NOW - DAY)), NOW), "revoked 2027-01-14");
        assert_eq!(
            state(&token(NOW + 9 * DAY, Some(NOW + DAY)), NOW),
            "until 2027-01-16",
            "a grace period"
        );
        assert!(token(1, None).text().to_string().ends_with("(expired)"));
    }

    #[test]
    fn lists_fit_a_terminal() {
        let list = TokenList { tokens: vec![token(NOW, Some(NOW))], next: None };
        for line in list.text().to_string().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
