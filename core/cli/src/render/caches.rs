//! Caches, as operators read them.

use std::fmt;

use snowbank_core::units::{Bytes, Limit};
use snowbank_core::wire::admin::{CacheDetails, CacheList, CacheUsage, PurgedCache};

use super::Render;
use crate::date::utc;
use crate::table::{Table, plain};

impl Render for CacheList {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
                utc(cache.created),
                cache.description.clone(),
            ]);
        }
        write!(f, "{table}")
    }
}

impl Render for PurgedCache {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl Render for CacheDetails {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        write!(f, "created            {}", utc(self.created))?;
        if let Some(destroyed) = self.destroyed {
            write!(f, "\ndestroyed          {}", utc(destroyed))?;
        }
        for key in &self.keys {
            let until =
                key.retired.map_or_else(String::new, |at| format!("  (signs until {})", utc(at)));
            write!(f, "\nkey                {}{until}", key.public_key)?;
        }
        match &self.usage {
            Some(usage) => write!(f, "\n{}", usage.text()),
            None => Ok(()),
        }
    }
}

impl Render for CacheUsage {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "paths              {}", self.paths)?;
        writeln!(f, "logical size       {}", Bytes(self.logical_bytes))?;
        writeln!(f, "stored size        {}", Bytes(self.stored_bytes))?;
        writeln!(f, "  its own          {}", Bytes(self.own_bytes))?;
        writeln!(f, "  shared           {}", Bytes(self.shared_bytes))?;
        write!(f, "counted            {}", utc(self.counted))
    }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
