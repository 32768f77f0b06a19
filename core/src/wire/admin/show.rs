//! The messages as people read them: tables and short sheets, without an end of line at the end.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    AuditEntry, AuditPage, CacheDetails, CacheList, CacheUsage, CopiedPaths, DeletedPaths,
    PathDetails, PathPage, PurgedCache, RevokedTokens, TokenGrants, TokenInfo, TokenList,
};
use crate::units::{Bytes, Limit, date};

/// Columns as wide as their widest entry; the last one as it comes. Control characters of what
/// others wrote are not shown.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&name| name.to_owned()).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)).to_vec());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let line = cells.join("  ");
            write!(f, "{}{}", if number == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}

/// `text` with control characters as `?`.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Who did something, where that may be seen.
pub(super) fn by(subject: Option<&str>) -> String {
    subject.map_or_else(String::new, |subject| format!(" by {}", plain(subject)))
}

fn moment(seconds: Option<i64>) -> String {
    seconds.map_or_else(|| "never".to_owned(), date)
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

impl fmt::Display for TokenGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self
            .caches
            .iter()
            .map(|(pattern, permissions)| format!("{pattern}:{}", permissions.join("+")))
            .collect();
        if self.admin {
            words.push("admin".to_owned());
        }
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for CacheList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&[
            "NAME",
            "ACCESS",
            "PRIORITY",
            "RETENTION",
            "MAX SIZE",
            "CREATED",
            "DESCRIPTION",
        ]);
        for cache in &self.caches {
            let access = match (cache.destroyed, cache.public) {
                (Some(_), _) => "destroyed",
                (None, true) => "public",
                (None, false) => "private",
            };
            table.row([
                cache.name.clone(),
                format!("{access}{}", if cache.isolated { ", isolated" } else { "" }),
                cache.priority.to_string(),
                cache.retention.to_string(),
                cache.max_size.to_string(),
                date(cache.created),
                cache.description.clone(),
            ]);
        }
        table.fmt(f)
    }
}

impl fmt::Display for PurgedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, paths, .. } = self;
        if self.is_gone {
            writeln!(f, "`{name}` is gone for good, with {paths} path(s).")?;
        } else {
            writeln!(
                f,
                "`{name}` is going for good: {paths} path(s) are gone, and the servers remove the \
                 rest within the hour."
            )?;
        }
        let own = self
            .own_bytes
            .map_or_else(String::new, |bytes| format!(" ({} by the last one)", Bytes(bytes)));
        write!(
            f,
            "Collections give back what it alone needed{own}, once that has been so for {}; `gc \
             --grace 0s` does it at once.",
            self.grace
        )
    }
}

impl fmt::Display for CacheDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name               {}", self.name)?;
        if let Some(url) = &self.url {
            writeln!(f, "substituter        {}", plain(url))?;
        }
        writeln!(f, "description        {}", plain(&self.description))?;
        writeln!(f, "public             {}", yes(self.public))?;
        writeln!(f, "isolated           {}", yes(self.isolated))?;
        writeln!(f, "store directory    {}", self.store_dir)?;
        writeln!(f, "priority           {}", self.priority)?;
        writeln!(f, "want mass query    {}", yes(self.want_mass_query))?;
        writeln!(f, "upstream keys      {}", self.upstream_keys.join(" "))?;
        writeln!(f, "compression level  {}", self.compression_level)?;
        let retention = match self.retention {
            Limit::None => "never deletes".to_owned(),
            other => other.to_string(),
        };
        writeln!(f, "retention          {retention}")?;
        writeln!(f, "max size           {}", self.max_size)?;
        write!(f, "created            {}", date(self.created))?;
        if let Some(destroyed) = self.destroyed {
            write!(f, "\ndestroyed          {}", date(destroyed))?;
        }
        for key in &self.keys {
            let until =
                key.retired.map_or_else(String::new, |at| format!("  (signs until {})", date(at)));
            write!(f, "\nkey                {}{until}", key.public_key)?;
        }
        match &self.usage {
            Some(usage) => write!(f, "\n{usage}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for CacheUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "paths              {}", self.paths)?;
        writeln!(f, "logical size       {}", Bytes(self.logical_bytes))?;
        writeln!(f, "stored size        {}", Bytes(self.stored_bytes))?;
        writeln!(f, "  its own          {}", Bytes(self.own_bytes))?;
        writeln!(f, "  shared           {}", Bytes(self.shared_bytes))?;
        write!(f, "counted            {}", date(self.counted))
    }
}

/// Whether a token is valid, and since or until which day.
fn state(token: &TokenInfo, now: i64) -> String {
    match token.revoked {
        Some(at) if at <= now => format!("revoked {}", day(at)),
        Some(at) if at < token.expires => format!("until {}", day(at)),
        _ if token.expires <= now => format!("expired {}", day(token.expires)),
        _ => format!("until {}", day(token.expires)),
    }
}

/// The date without the time of day.
fn day(seconds: i64) -> String {
    date(seconds).split(' ').next().unwrap_or_default().to_owned()
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Two lines for each token, as wide as a terminal: `token show` has the rest.
impl fmt::Display for TokenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = unix_now();
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

impl fmt::Display for TokenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "id           {}", self.id)?;
        writeln!(f, "subject      {}", plain(&self.subject))?;
        writeln!(f, "label        {}", plain(&self.label))?;
        writeln!(f, "permissions  {}", self.grants)?;
        writeln!(f, "key          {}", self.key_id)?;
        writeln!(f, "created      {} by {}", date(self.created), plain(&self.created_by))?;
        writeln!(f, "last used    {}", moment(self.last_used))?;
        let over = if self.expires <= unix_now() { " (expired)" } else { "" };
        write!(f, "expires      {}{over}", date(self.expires))?;
        self.revoked.map_or(Ok(()), |at| write!(f, "\nrevoked      {}", date(at)))
    }
}

impl fmt::Display for RevokedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.within_seconds;
        if self.tokens == 0 {
            return write!(
                f,
                "Noted, but no valid token of this server's is concerned: what was named is over, \
                 revoked already, or \
                 another issuer's. Every server refuses it within {seconds} s."
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

impl fmt::Display for AuditPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["ID", "TIME (UTC)", "ACTION", "CACHE", "OUTCOME", "SUBJECT"]);
        for entry in &self.entries {
            table.row([
                entry.id.to_string(),
                date(entry.time).trim_end_matches(" UTC").to_owned(),
                entry.action.clone(),
                entry.cache.clone(),
                entry.outcome.clone(),
                entry.subject.clone(),
            ]);
        }
        // The particulars follow in a line of their own: they are of any length.
        let table = table.to_string();
        let mut lines = table.lines();
        f.write_str(lines.next().unwrap_or_default())?;
        for (line, AuditEntry { remote, detail, .. }) in lines.zip(&self.entries) {
            let detail =
                if detail.is_empty() { String::new() } else { format!(": {}", plain(detail)) };
            write!(f, "\n{line}\n    from {}{detail}", plain(remote))?;
        }
        Ok(())
    }
}

impl fmt::Display for PathPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["NAR SIZE", "PUSHED", "BY", "PATH"]);
        for path in &self.paths {
            let by = path.pushed_by.clone().unwrap_or_default();
            table.row([
                Bytes(path.nar_size).to_string(),
                date(path.created),
                by,
                path.store_path.clone(),
            ]);
        }
        table.fmt(f)
    }
}

impl fmt::Display for PathDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "path        {}", self.store_path)?;
        writeln!(f, "NAR hash    {}", self.nar_hash)?;
        writeln!(f, "NAR size    {} ({} compressed)", Bytes(self.nar_size), Bytes(self.file_size))?;
        writeln!(f, "pushed      {}{}", date(self.created), by(self.pushed_by.as_deref()))?;
        if let Some(last_used) = self.last_used {
            writeln!(f, "last used   {}", date(last_used))?;
        }
        if let Some(expires) = self.expires {
            writeln!(f, "expires     {}", date(expires))?;
        }
        for pin in &self.pins {
            writeln!(f, "pinned as   {}", plain(pin))?;
        }
        if self.more_pins {
            writeln!(f, "            and others")?;
        }
        if let Some(deriver) = &self.deriver {
            writeln!(f, "deriver     {deriver}")?;
        }
        if let Some(ca) = &self.ca {
            writeln!(f, "content     {}", plain(ca))?;
        }
        for signature in &self.signatures {
            writeln!(f, "signature   {signature}")?;
        }
        write!(f, "references  {}", self.references.len() as u64 + self.more_references)?;
        self.references.iter().try_for_each(|reference| write!(f, "\n            {reference}"))?;
        if self.more_references > 0 {
            write!(f, "\n            and {} more", self.more_references)?;
        }
        Ok(())
    }
}

impl fmt::Display for DeletedPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.deleted {
            writeln!(f, "{path}")?;
        }
        let verb = if self.dry_run { "would be deleted" } else { "deleted" };
        write!(f, "{} path(s) with {} of NARs {verb}.", self.deleted.len(), Bytes(self.nar_bytes))
    }
}

impl fmt::Display for CopiedPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.copied {
            writeln!(f, "{path}")?;
        }
        write!(
            f,
            "{} path(s) with {} of NARs copied, {} there already.",
            self.copied.len(),
            Bytes(self.nar_bytes),
            self.present
        )
    }
}

#[cfg(test)]
mod tests {
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
        assert!(token(1, None).to_string().ends_with("(expired)"));
    }

    #[test]
    fn lists_fit_a_terminal() {
        let entry = AuditEntry {
            id: 123_456,
            time: NOW,
            subject: "ci-blog".to_owned(),
            token_id: String::new(),
            remote: "192.168.100.200".to_owned(),
            action: "cache.export-key".to_owned(),
            cache: "production".to_owned(),
            detail: "key".to_owned(),
            outcome: "forbidden".to_owned(),
        };
        let audit = AuditPage { entries: vec![entry], next: None }.to_string();
        let list = TokenList { tokens: vec![token(NOW, Some(NOW))], next: None }.to_string();
        for line in audit.lines().chain(list.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(audit.ends_with("\n    from 192.168.100.200: key"), "{audit}");
    }
}
