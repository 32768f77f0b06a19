//! The section as it is written, each value with its place, so that what is wrong with it can be
//! named by its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::super::error::line_at;
use super::super::{ConfigError, TokenAlgorithm};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::config) struct AuthSection {
    pub(super) push_session: Spanned<String>,
    pub(super) token_key: Vec<TokenKeySection>,
    pub(super) legacy_key: Vec<LegacyKeySection>,
    pub(super) oidc: Vec<OidcSection>,
}

impl Default for AuthSection {
    fn default() -> Self {
        Self {
            push_session: Spanned::new(0..0, "6h".to_owned()),
            token_key: Vec::new(),
            legacy_key: Vec::new(),
            oidc: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TokenKeySection {
    pub kid: Spanned<String>,
    pub algorithm: TokenAlgorithm,
    pub file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LegacyKeySection {
    pub name: Spanned<String>,
    pub algorithm: Spanned<TokenAlgorithm>,
    pub file: PathBuf,
    pub issuer: Option<String>,
    #[serde(default)]
    pub audiences: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct OidcSection {
    pub issuer: Spanned<String>,
    pub audience: Spanned<String>,
    pub name: Option<Spanned<String>>,
    #[serde(default)]
    pub claims: BTreeMap<String, Spanned<Patterns>>,
    #[serde(default)]
    pub permissions: BTreeMap<String, Spanned<Vec<String>>>,
}

/// One pattern, or any of several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a pattern, or a list of patterns")]
pub(super) enum Patterns {
    One(String),
    Many(Vec<String>),
}

impl Patterns {
    pub fn into_list(self) -> Vec<String> {
        match self {
            Self::One(pattern) => vec![pattern],
            Self::Many(list) => list,
        }
    }
}

/// The config file: where its values stand.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct SourceText<'a> {
    pub path: Option<&'a Path>,
    pub text: &'a str,
}

impl SourceText<'_> {
    /// What is wrong with the value at this place.
    pub fn problem(&self, at: &Range<usize>, key: &str, message: &str) -> ConfigError {
        let message = format!("`{key}`: {message}");
        match self.path {
            Some(path) => ConfigError::Invalid {
                path: path.to_owned(),
                line: line_at(self.text, at.start),
                message,
            },
            None => ConfigError::Value(message),
        }
    }

    /// The file and the line of a value.
    pub fn place(&self, at: &Range<usize>) -> String {
        let file = self.path.unwrap_or(Path::new("the settings")).display();
        format!("{file}:{}", line_at(self.text, at.start))
    }
}
