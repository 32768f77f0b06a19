//! Pins, as operators read them.

use std::fmt;

use snowbank_core::wire::admin::pins::{PinDetails, PinGeneration, PinList};

use super::{Render, by};
use crate::date::{utc, utc_or_never};
use crate::table::{Table, plain};

fn presence(present: bool) -> &'static str {
    if present { "" } else { "  (out of sight: push it again)" }
}

impl Render for PinList {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            Table::new(&["NAME", "GENERATION", "KEEPS", "PINNED", "BY", "EXPIRES", "PATH"]);
        for pin in &self.pins {
            table.row([
                pin.name.to_string(),
                pin.generation.to_string(),
                pin.keep.to_string(),
                utc(pin.created),
                pin.created_by.clone().unwrap_or_default(),
                utc_or_never(pin.expires),
                format!("{}{}", pin.store_path, presence(pin.present)),
            ]);
        }
        write!(f, "{table}")
    }
}

impl Render for PinDetails {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pin, history, next: _ } = self;
        writeln!(f, "pin         {}", pin.name)?;
        writeln!(f, "path        {}{}", pin.store_path, presence(pin.present))?;
        writeln!(f, "pinned      {}{}", utc(pin.created), by(pin.created_by.as_deref()))?;
        writeln!(f, "expires     {}", utc_or_never(pin.expires))?;
        write!(f, "generation  {}, the newest {} are kept", pin.generation, pin.keep)?;
        for one in history {
            let mark = if one.generation == pin.generation { '*' } else { ' ' };
            let PinGeneration { generation, store_path, present, created, created_by } = one;
            let (when, there) = (utc(*created), presence(*present));
            let who = created_by
                .as_deref()
                .map_or_else(String::new, |who| format!("  by {}", plain(who)));
            write!(f, "\n{mark} {generation:>8}  {when}  {store_path}{who}{there}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use snowbank_core::wire::admin::pins::PinInfo;

    use super::*;

    #[test]
    fn the_history_marks_what_the_name_stands_for() {
        let one = |generation, present| PinGeneration {
            generation,
            store_path: format!("/nix/store/{}-v{generation}", "0".repeat(32)),
            present,
            created: 0,
            created_by: Some("ci".to_owned()),
        };
        let pin = PinInfo {
            name: "latest".parse().unwrap(),
            store_path: one(2, true).store_path,
            present: true,
            generation: 2,
            keep: 5,
            expires: None,
            created: 0,
            created_by: Some("ci".to_owned()),
        };
        let details = PinDetails {
            pin,
            history: vec![one(3, true), one(2, true), one(1, false)],
            next: None,
        };
        let shown = details.text().to_string();
        let marked: Vec<&str> = shown.lines().filter(|line| line.starts_with('*')).collect();
        assert!(matches!(marked[..], [line] if line.contains("-v2")), "{shown}");
        assert!(shown.lines().last().unwrap().contains("push it again"), "{shown}");
    }
}
