//! What operators ask. Nothing of it is repeated by itself but questions: a change may have been made although its answer
//! did not come.

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Api, ApiError, JSON, MAX_ANSWER_BYTES, Request};

impl Api {
    /// `GET /api/v1/{path}`, an answer in JSON.
    ///
    /// # Errors
    /// As [`Api::cache_info`].
    pub async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.json(Request::get(format!("{}/api/v1/{path}", self.server_url()))).await
    }

    /// `GET /api/v1/{path}` with the fields of `query`.
    ///
    /// # Errors
    /// As [`Api::cache_info`].
    pub async fn ask_with<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, ApiError> {
        let fields = serde_json::to_value(query).map_err(|error| self.malformed(path, &error))?;
        let field = |(name, value): (&String, &serde_json::Value)| {
            (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        let fields = fields.as_object().into_iter().flatten().map(field);
        let url = format!("{}/api/v1/{path}", self.server_url());
        let url = reqwest::Url::parse_with_params(&url, fields).map_err(|error| self.malformed(&url, &error))?;
        self.json(Request::get(url.into())).await
    }

    /// Asks for a change, once; an answer in JSON.
    ///
    /// # Errors
    /// As [`Api::cache_info`].
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let url = format!("{}/api/v1/{path}", self.server_url());
        let request = Request { method, url: url.clone(), content_type: JSON, body: self.to_json(path, body)? };
        let answer = self.attempt(&request).await?.whole(MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&answer).map_err(|error| self.malformed(&url, &error))
    }
}
