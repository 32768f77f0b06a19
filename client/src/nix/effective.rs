//! The settings that are in effect for Nix: `nix config show`, which was `nix show-config` before
//! 2.20.

use serde_json::Value;

use super::program::{NixRunError, run};
use super::same_substituter;

const COMMANDS: [&[&str]; 2] = [&["config", "show", "--json"], &["show-config", "--json"]];

/// Whose settings are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of this process's environment.
    User,
    /// Those of the whole machine's files, by which a daemon goes.
    System,
}

/// The settings in effect, as Nix shows them.
#[derive(Debug, Clone)]
pub struct EffectiveSettings {
    settings: Value,
}

impl EffectiveSettings {
    /// Asks Nix.
    ///
    /// # Errors
    /// [`NixRunError`] where Nix does not run. The inner error is Nix's message where it does not
    /// accept its settings.
    pub async fn ask(scope: Scope) -> Result<Result<Self, String>, NixRunError> {
        let mut stderr = String::new();
        for arguments in COMMANDS {
            let output = run(|command| {
                command.args(arguments);
                if scope == Scope::System {
                    command.env("NIX_USER_CONF_FILES", "").env_remove("NIX_CONFIG");
                }
            })
            .await?;
            match serde_json::from_slice(&output.stdout) {
                Ok(settings) if output.status.success() => return Ok(Ok(Self { settings })),
                _ => String::from_utf8_lossy(&output.stderr).trim().clone_into(&mut stderr),
            }
        }
        Ok(Err(stderr))
    }

    fn value(&self, name: &str) -> &Value {
        &self.settings[name]["value"]
    }

    fn words(&self, name: &str) -> Vec<&str> {
        let values = self.value(name).as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(Value::as_str).collect()
    }

    /// Whether `url` is among the substituters.
    #[must_use]
    pub fn has_substituter(&self, url: &str) -> bool {
        self.words("substituters").iter().any(|own| same_substituter(own, url))
    }

    /// Whether any of `keys` is trusted.
    #[must_use]
    pub fn trusts_one_of(&self, keys: &[String]) -> bool {
        let trusted = self.words("trusted-public-keys");
        keys.iter().any(|key| trusted.contains(&key.as_str()))
    }

    /// The netrc file.
    #[must_use]
    pub fn netrc_file(&self) -> Option<&str> {
        self.value("netrc-file").as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_what_nix_prints() {
        let text = r#"{"substituters":
                {"value": ["https://cache.nixos.org/", "http://h/main?priority=3"]},
            "trusted-public-keys": {"value": ["k:1"]}, "netrc-file": {"value": "/etc/nix/netrc"}}"#;
        let effective = EffectiveSettings { settings: serde_json::from_str(text).unwrap() };
        assert!(
            effective.has_substituter("http://h/main")
                && !effective.has_substituter("http://h/mai")
        );
        assert!(
            effective.trusts_one_of(&["k:2".to_owned(), "k:1".to_owned()])
                && !effective.trusts_one_of(&[])
        );
        assert_eq!(effective.netrc_file(), Some("/etc/nix/netrc"));
    }
}
