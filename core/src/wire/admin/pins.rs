//! Pins: names for paths that are to stay, each with the history of what it stood for.

use serde::{Deserialize, Serialize};

use crate::hash::NarHash;
use crate::pin_name::PinName;
use crate::units::Seconds;

/// How many generations of a new name are kept, unless said otherwise.
pub const DEFAULT_KEPT: u32 = 5;
/// How many generations of a name are kept at most.
pub const MAX_KEPT: u32 = 1_000;

/// Body of `PUT /api/v1/caches/{cache}/pins/{name}`. A name that stands for that path already stays
/// as it is, but for the two numbers: to ask twice is to ask once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPin {
    /// The full store path, its base name or its hash part; the cache has it.
    pub path: String,
    /// How many generations of the name are kept; as many as before where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// For how long it holds; without it, until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Seconds>,
}

/// Body of `POST /api/v1/caches/{cache}/pins/{name}/rollback`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackPin {
    /// The generation that the name is to stand for; the one before the current one where it is
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// What a pin stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinInfo {
    /// Its name.
    pub name: PinName,
    /// The full store path.
    pub store_path: String,
    /// Whether the cache shows that path; one that was damaged is out of sight until it is pushed
    /// again.
    pub present: bool,
    /// Which of the name's generations it is.
    pub generation: u64,
    /// How many generations are kept.
    pub keep: u32,
    /// Until when it holds, in seconds since 1970; absent where it holds until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// When this generation was made.
    pub created: i64,
    /// Who made it, for those who may push to the cache or manage it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// Answer to `GET /api/v1/caches/{cache}/pins`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinList {
    /// By name.
    pub pins: Vec<PinInfo>,
    /// What to ask for as `after` to get the rest; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Query of `GET /api/v1/caches/{cache}/pins/{name}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryQuery {
    /// Only generations before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// A path that a pin stands for, or stood for. It is kept as long as it is in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinGeneration {
    /// Its number: they count up.
    pub generation: u64,
    /// The full store path.
    pub store_path: String,
    /// Whether the cache shows that path.
    pub present: bool,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Who made it, for those who may push to the cache or manage it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// Answer to what shows or changes a pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinDetails {
    /// What it stands for.
    #[serde(flatten)]
    pub pin: PinInfo,
    /// All that it keeps, newest first.
    pub history: Vec<PinGeneration>,
    /// What to ask for as `before` to get the rest of the history; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Answer to `GET /{cache}/pins/{name}` in JSON: a path that the cache shows at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedPath {
    /// The pin.
    pub name: PinName,
    /// Which of the name's generations it is.
    pub generation: u64,
    /// The full store path.
    pub store_path: String,
    /// SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// When it was pinned, in seconds since 1970.
    pub created: i64,
    /// Until when the pin holds; absent where it holds until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_and_its_history_are_one_object() {
        let [store_path, created_by] = ["/nix/store/x", "ci"].map(str::to_owned);
        let pin = PinInfo {
            name: "latest".parse().unwrap(),
            store_path: store_path.clone(),
            present: true,
            generation: 2,
            keep: 5,
            expires: None,
            created: 0,
            created_by: Some(created_by),
        };
        let one = PinGeneration {
            generation: 2,
            store_path,
            present: true,
            created: 0,
            created_by: None,
        };
        let details = PinDetails { pin, history: vec![one], next: None };
        let text = serde_json::to_string(&details).unwrap();
        assert!(text.contains(r#""name":"latest""#) && !text.contains("expires"), "{text}");
        assert_eq!(serde_json::from_str::<PinDetails>(&text).unwrap(), details);
    }
}
