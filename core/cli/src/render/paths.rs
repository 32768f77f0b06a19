//! Paths of a cache, as operators read them.

use std::fmt;

use snowbank_core::units::Bytes;
use snowbank_core::wire::admin::withdrawn::{WithdrawnPage, WithdrawnPath};
use snowbank_core::wire::admin::{CopiedPaths, DeletedPaths, PathDetails, PathPage};

use super::{Render, by};
use crate::date::utc;
use crate::table::{Table, plain};

impl Render for PathPage {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["NAR SIZE", "PUSHED", "BY", "PATH"]);
        for path in &self.paths {
            let by = path.pushed_by.clone().unwrap_or_default();
            table.row([
                Bytes(path.nar_size).to_string(),
                utc(path.created),
                by,
                path.store_path.clone(),
            ]);
        }
        write!(f, "{table}")
    }
}

impl Render for PathDetails {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "path        {}", self.store_path)?;
        writeln!(f, "NAR hash    {}", self.nar_hash)?;
        writeln!(f, "NAR size    {} ({} compressed)", Bytes(self.nar_size), Bytes(self.file_size))?;
        writeln!(f, "pushed      {}{}", utc(self.created), by(self.pushed_by.as_deref()))?;
        if let Some(last_used) = self.last_used {
            writeln!(f, "last used   {}", utc(last_used))?;
        }
        if let Some(expires) = self.expires {
            writeln!(f, "expires     {}", utc(expires))?;
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

impl Render for DeletedPaths {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.deleted {
            writeln!(f, "{path}")?;
        }
        let verb = if self.dry_run { "would be deleted" } else { "deleted" };
        write!(f, "{} path(s) with {} of NARs {verb}.", self.deleted.len(), Bytes(self.nar_bytes))
    }
}

impl Render for CopiedPaths {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl Render for WithdrawnPage {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for WithdrawnPath { path, reason, since, .. } in &self.paths {
            writeln!(f, "{path}  since {}: {reason}", utc(*since))?;
        }
        match self.paths.len() {
            0 => f.write_str("No path is withdrawn."),
            paths => write!(f, "{paths} path(s) are withdrawn (404) until they are pushed again."),
        }
    }
}
