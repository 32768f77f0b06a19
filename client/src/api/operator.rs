//! What operators ask. Nothing of it is repeated by itself but questions and pins: another change
//! may have been made although its answer did not come, and would then be made twice.

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use snowbank_core::pin_name::PinName;
use snowbank_core::wire::admin::collection::{GcLine, GcReport, GcRequest};
use snowbank_core::wire::admin::pins::{PinDetails, SetPin};

use super::answer::Lines;
use super::{Api, ApiError, JSON, MAX_ANSWER_BYTES, Request};

impl Api {
    /// `GET /api/v1/{path}`, an answer in JSON.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.json(Request::get(format!("{}/api/v1/{path}", self.server_url()))).await
    }

    /// `GET /api/v1/{path}` with the fields of `query`.
    pub async fn ask_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, ApiError> {
        let fields = serde_json::to_value(query).map_err(|error| self.malformed(path, &error))?;
        let field = |(name, value): (&String, &serde_json::Value)| {
            (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        let fields = fields.as_object().into_iter().flatten().map(field);
        let url = format!("{}/api/v1/{path}", self.server_url());
        let url = reqwest::Url::parse_with_params(&url, fields)
            .map_err(|error| self.malformed(&url, &error))?;
        self.json(Request::get(url.into())).await
    }

    /// `PUT /api/v1/caches/{cache}/pins/{name}`. Said twice it is as if it were said once, and so
    /// it may be repeated.
    pub async fn set_pin(&self, name: &PinName, pin: &SetPin) -> Result<PinDetails, ApiError> {
        let url = format!("{}/api/v1/caches/{}/pins/{name}", self.server_url(), self.cache());
        let body = self.to_json("pins", pin)?;
        self.json(Request { method: Method::PUT, url, content_type: JSON, encoding: None, body })
            .await
    }

    /// Asks for a change, once; an answer in JSON.
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let url = format!("{}/api/v1/{path}", self.server_url());
        let request = Request {
            method,
            url: url.clone(),
            content_type: JSON,
            encoding: None,
            body: self.to_json(path, body)?,
        };
        let answer = self.attempt(&request).await?.whole(MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&answer).map_err(|error| self.malformed(&url, &error))
    }

    /// `POST /api/v1/gc`, once; `say` gets what the server says of its doing.
    ///
    /// # Errors
    /// As [`Api::cache_info`]; [`ApiErrorKind::Server`](super::ApiErrorKind::Server) when the
    /// collection could not be finished.
    pub async fn collect(
        &self,
        request: &GcRequest,
        say: impl Fn(&str),
    ) -> Result<GcReport, ApiError> {
        let url = format!("{}/api/v1/gc", self.server_url());
        let request = Request {
            method: Method::POST,
            url,
            content_type: JSON,
            encoding: None,
            body: self.to_json("gc", request)?,
        };
        let mut lines = Lines::new(self.attempt(&request).await?);
        while let Some(line) = lines.next().await? {
            match line {
                // The server is there, and that is all.
                GcLine::Progress { text } if text.is_empty() => {}
                GcLine::Progress { text } => say(&text),
                GcLine::Report(report) => return Ok(*report),
                GcLine::Failed { message } => {
                    return Err(ApiError::unfinished(self.server_url(), &message));
                }
            }
        }
        Err(lines.cut_off())
    }
}
