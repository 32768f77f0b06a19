//! The messages as people read them: tables and short sheets, without an end of line at the end.

use std::fmt;

use super::{
    AuditPage, CacheDetails, CacheList, CacheUsage, CopiedPaths, DeletedPaths, PathDetails, PathPage, PurgedCache,
    RevokedTokens, TokenGrants, TokenInfo, TokenList,
};
use crate::units::{Bytes, Limit, date};

/// Columns as wide as their widest entry; the last one as it comes. Control characters of what others wrote are not shown.
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
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
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
        let mut words: Vec<String> =
            self.caches.iter().map(|(pattern, permissions)| format!("{pattern}:{}", permissions.join("+"))).collect();
        if self.admin {
            words.push("admin".to_owned());
        }
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for CacheList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["NAME", "ACCESS", "PRIORITY", "RETENTION", "MAX SIZE", "CREATED", "DESCRIPTION"]);
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
                "`{name}` is going for good: {paths} path(s) are gone, and the servers remove the rest within the hour."
            )?;
        }
        let own = self.own_bytes.map_or_else(String::new, |bytes| format!(" ({} by the last one)", Bytes(bytes)));
        write!(
            f,
            "Collections give back what it alone needed{own}, once that has been so for {}; `gc --grace 0s` does it at once.",
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
            let until = key.retired.map_or_else(String::new, |at| format!("  (signs until {})", date(at)));
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

impl fmt::Display for TokenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            Table::new(&["ID", "SUBJECT", "PERMISSIONS", "CREATED", "LAST USED", "EXPIRES", "REVOKED", "LABEL"]);
        for token in &self.tokens {
            table.row([
                token.id.clone(),
                token.subject.clone(),
                token.grants.to_string(),
                date(token.created),
                moment(token.last_used),
                date(token.expires),
                token.revoked.map_or_else(String::new, date),
                token.label.clone(),
            ]);
        }
        table.fmt(f)
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
        write!(f, "expires      {}", date(self.expires))?;
        self.revoked.map_or(Ok(()), |at| write!(f, "\nrevoked      {}", date(at)))
    }
}

impl fmt::Display for RevokedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.within_seconds;
        if self.tokens == 0 {
            return write!(
                f,
                "Noted, but no valid token of this server's is concerned: what was named is over, revoked already, or \
                 another issuer's. Every server refuses it within {seconds} s."
            );
        }
        write!(
            f,
            "Revoked; {} valid token(s) of this server's are concerned. Every server refuses them within {seconds} s.",
            self.tokens
        )
    }
}

impl fmt::Display for AuditPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["ID", "TIME", "SUBJECT", "FROM", "ACTION", "CACHE", "OUTCOME", "DETAIL"]);
        for entry in &self.entries {
            table.row([
                entry.id.to_string(),
                date(entry.time),
                entry.subject.clone(),
                entry.remote.clone(),
                entry.action.clone(),
                entry.cache.clone(),
                entry.outcome.clone(),
                entry.detail.clone(),
            ]);
        }
        table.fmt(f)
    }
}

impl fmt::Display for PathPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["NAR BYTES", "PUSHED", "BY", "PATH"]);
        for path in &self.paths {
            let by = path.pushed_by.clone().unwrap_or_default();
            table.row([path.nar_size.to_string(), date(path.created), by, path.store_path.clone()]);
        }
        table.fmt(f)
    }
}

impl fmt::Display for PathDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "path        {}", self.store_path)?;
        writeln!(f, "NAR hash    {}", self.nar_hash)?;
        writeln!(f, "NAR bytes   {} ({} compressed)", self.nar_size, self.file_size)?;
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
        write!(f, "{} path(s) with {} bytes of NARs {verb}.", self.deleted.len(), self.nar_bytes)
    }
}

impl fmt::Display for CopiedPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.copied {
            writeln!(f, "{path}")?;
        }
        write!(
            f,
            "{} path(s) with {} bytes of NARs copied, {} there already.",
            self.copied.len(),
            self.nar_bytes,
            self.present
        )
    }
}
