//! Pins over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Api, protocol::Answer};

/// The pins of a cache.
#[derive(Clone, Debug)]
pub struct Pins {
    api: Api,
    cache: String,
}

impl Pins {
    /// Those of `cache`, with the token of `api`.
    #[must_use]
    pub fn of(api: &Api, cache: &str) -> Self {
        Self { api: api.clone(), cache: cache.to_owned() }
    }

    fn address(&self, name: &str) -> String {
        format!("/api/v1/caches/{}/pins/{name}", self.cache)
    }

    /// Pins a path; `keep` generations of the name are kept, and it holds for `expires` seconds.
    #[must_use]
    pub fn set(&self, name: &str, path: &str, keep: Option<u32>, expires: Option<u64>) -> Answer {
        let mut body = json!({ "path": path });
        if let Some(keep) = keep {
            body["keep"] = json!(keep);
        }
        if let Some(seconds) = expires {
            body["expires"] = json!(format!("{seconds}s"));
        }
        self.api.json(Method::PUT, &self.address(name), &body)
    }

    /// Lets the name stand for the generation before.
    #[must_use]
    pub fn rollback(&self, name: &str) -> Answer {
        self.api.json(Method::POST, &format!("{}/rollback", self.address(name)), &json!({}))
    }

    /// Removes the name with its history.
    #[must_use]
    pub fn remove(&self, name: &str) -> Answer {
        self.api.json(Method::DELETE, &self.address(name), &Value::Null)
    }

    /// What a deployment asks: the store path that the name stands for, as text.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Answer {
        self.api.get_with(&format!("/{}/pins/{name}", self.cache), &[("accept", "text/plain")])
    }
}
