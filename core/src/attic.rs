//! The JSON of attic's HTTP API, version 1, and the claim by which its tokens allow something.
//!
//! | type | where |
//! |---|---|
//! | [`UploadInfo`], [`UploadResult`] | `PUT /_api/v1/upload-path` |
//! | [`MissingPathsQuestion`], [`MissingPathsAnswer`] | `POST /_api/v1/get-missing-paths` |
//! | [`NewCache`], [`CacheConfig`] | `/_api/v1/cache-config/{cache}` |
//! | [`ErrorAnswer`] | every refusal |
//! | [`Access`] | the claim [`CLAIM`] of a token |
//!
//! The source is attic's protocol as its documentation and its client speak it. Fields that are not
//! known here are passed over, as attic does.

mod access;
mod upload;

use serde::{Deserialize, Serialize};

use crate::wire::admin::SecretText;

pub use access::{Access, CLAIM, Right};
pub use upload::{UploadInfo, UploadInfoError, UploadKind, UploadResult};

/// The question which paths a cache lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPathsQuestion {
    /// The cache's name.
    pub cache: String,
    /// The hash parts of the paths.
    pub store_path_hashes: Vec<String>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPathsAnswer {
    /// The hash parts of those that are missing, in the order of the question.
    pub missing_paths: Vec<String>,
}

/// The signing key of a cache, as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keypair {
    /// A new one, which the server makes.
    Generate,
    /// This one, `name:base64` as Nix writes a secret key.
    Keypair(SecretText),
}

/// How long a cache keeps a path that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionPeriod {
    /// As long as the server's settings say.
    Global,
    /// So many seconds; for ever where that is 0.
    Period(u64),
}

/// A cache to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCache {
    /// What it signs with.
    pub keypair: Keypair,
    /// Whether anyone may read it.
    pub is_public: bool,
    /// The store that its paths belong to.
    pub store_dir: String,
    /// Its rank among substituters.
    pub priority: i64,
    /// Paths signed by keys of these names are not pushed.
    pub upstream_cache_key_names: Vec<String>,
}

/// The settings of a cache. In a change, an absent field stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheConfig {
    /// What it signs with from now on. Never in an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keypair: Option<Keypair>,
    /// Its address as a substituter. Only in answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substituter_endpoint: Option<String>,
    /// The server's address with a slash at its end. Only in answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_endpoint: Option<String>,
    /// What `trusted-public-keys` in nix.conf wants. Only in answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Whether anyone may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_public: Option<bool>,
    /// The store that its paths belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_dir: Option<String>,
    /// Its rank among substituters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Paths signed by keys of these names are not pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_cache_key_names: Option<Vec<String>>,
    /// How long it keeps a path that nobody uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_period: Option<RetentionPeriod>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// The HTTP status.
    pub code: u16,
    /// Its name, such as `NoSuchCache`.
    pub error: String,
    /// What happened, and what to do.
    pub message: String,
    /// The request's id, for the server's operator. attic has no such field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_written_as_attic_writes_them() {
        let config: CacheConfig = serde_json::from_value(json!({
            "keypair": {"Keypair": "name:c2VjcmV0"}, "retention_period": {"Period": 60},
            "unknown": [1],
        }))
        .unwrap();
        assert_eq!(config.keypair, Some(Keypair::Keypair(SecretText("name:c2VjcmV0".to_owned()))));
        assert_eq!(config.retention_period, Some(RetentionPeriod::Period(60)));
        assert!(!format!("{config:?}").contains("c2VjcmV0"));
        let config = CacheConfig {
            keypair: Some(Keypair::Generate),
            retention_period: Some(RetentionPeriod::Global),
            ..CacheConfig::default()
        };
        let text = json!({"keypair": "Generate", "retention_period": "Global"});
        assert_eq!(serde_json::to_value(config).unwrap(), text);
    }
}
