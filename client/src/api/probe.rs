//! One look at a server, for those who want to know why the rest does not work: without a token,
//! and tried once.

use std::time::SystemTime;

use reqwest::header::DATE;

use super::{Api, ApiError};

/// What a server answered at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The answer's status.
    pub status: u16,
    /// The server's clock, to the second, where it tells.
    pub date: Option<SystemTime>,
}

impl Api {
    /// `GET /healthz`.
    ///
    /// # Errors
    /// No answer: no connection, or none in time. Any answer is a success.
    pub async fn probe(&self) -> Result<Probe, ApiError> {
        let (server, stall) = (self.server_url(), self.shared.timeouts.stall);
        let url = format!("{server}/healthz");
        let response = tokio::time::timeout(stall, self.shared.http.get(&url).send())
            .await
            .map_err(|_| ApiError::stalled(server, &url, stall))?
            .map_err(|error| ApiError::transport(&self.shared.target, &url, &error))?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        Ok(Probe { status: response.status().as_u16(), date })
    }
}
