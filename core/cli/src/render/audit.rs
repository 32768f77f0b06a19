//! The audit log, as operators read it.

use std::fmt;

use snowbank_core::wire::admin::{AuditEntry, AuditPage};

use super::Render;
use crate::date::utc;
use crate::table::{Table, plain};

impl Render for AuditPage {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["ID", "TIME (UTC)", "ACTION", "CACHE", "OUTCOME", "SUBJECT"]);
        for entry in &self.entries {
            table.row([
                entry.id.to_string(),
                utc(entry.time).trim_end_matches(" UTC").to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_fit_a_terminal() {
        let entry = AuditEntry {
            id: 123_456,
            time: 1_800_000_000,
            subject: "ci-blog".to_owned(),
            token_id: String::new(),
            remote: "192.168.100.200".to_owned(),
            action: "cache.export-key".to_owned(),
            cache: "production".to_owned(),
            detail: "key".to_owned(),
            outcome: "forbidden".to_owned(),
        };
        let audit = AuditPage { entries: vec![entry], next: None }.text().to_string();
        for line in audit.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(audit.ends_with("\n    from 192.168.100.200: key"), "{audit}");
    }
}
