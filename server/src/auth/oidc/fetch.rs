//! Asking an issuer for its keys: its discovery document (OpenID Connect Discovery 1.0), then the
//! key set that it names.
//!
//! The client is the one that the S3 client brings along, hyper and rustls with the system's
//! certificates and proxy variables: a second HTTP client would be a mebibyte of binary for two
//! small requests every ten minutes. It follows no redirect.

use std::error::Error;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::byte_stream::ByteStream;
use serde::Deserialize;

use super::key_set::KeySet;
use crate::config::Transport;

/// The longest answer that is read.
const MAX_BYTES: usize = 256 * 1024;
/// How long both requests together may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long keys are believed: unless the issuer says so, and at the least and the most.
const DEFAULT_FRESH_FOR: Duration = Duration::from_mins(10);
const MIN_AGE: Duration = Duration::from_mins(1);
const MAX_AGE: Duration = Duration::from_hours(24);

/// Why there are no keys. Told to the log alone.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
    #[error("{url}: {problem}")]
    Http { url: String, problem: String },
    #[error("{url}: status {status}, where 200 is wanted (redirects are not followed)")]
    Status { url: String, status: u16 },
    #[error("{0}: the answer is longer than 256 KiB")]
    TooLong(String),
    #[error("{url}: {source}")]
    Json { url: String, source: serde_json::Error },
    #[error(
        "{url}: the document is about the issuer `{found}`; `issuer` in the settings must be \
         exactly that text"
    )]
    OtherIssuer { url: String, found: String },
    #[error("`jwks_uri` is {0}, which is not https")]
    KeysAddress(String),
    #[error("{0}: there is no key that signs")]
    NoKeys(String),
}

/// An issuer's keys, and for how long to believe that they are these.
pub(super) struct FetchedKeys {
    pub keys: KeySet,
    pub fresh_for: Duration,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

struct Page {
    body: Vec<u8>,
    cache_control: Option<String>,
}

/// Speaks to issuers.
#[derive(Debug)]
pub(super) struct Http(Connector);

impl Http {
    pub fn new() -> Self {
        let builder = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        // Asked too rarely for a connection to be worth keeping.
        Self(
            builder
                .proxy_config(ProxyConfig::from_env())
                .pool_idle_timeout(Duration::from_secs(1))
                .build(),
        )
    }

    /// Asks for an issuer's keys.
    pub async fn fetch(&self, issuer: &str) -> Result<FetchedKeys, FetchError> {
        tokio::time::timeout(FETCH_TIMEOUT, self.fetch_both(issuer))
            .await
            .unwrap_or(Err(FetchError::Timeout))
    }

    async fn fetch_both(&self, issuer: &str) -> Result<FetchedKeys, FetchError> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let page = self.get(&url).await?;
        let about: Discovery = serde_json::from_slice(&page.body)
            .map_err(|source| FetchError::Json { url: url.clone(), source })?;
        if about.issuer != issuer {
            return Err(FetchError::OtherIssuer { url, found: about.issuer });
        }
        // What is asked under TLS must not be answered in the clear.
        match Transport::of(&about.jwks_uri) {
            Some(Transport::Https) => {}
            Some(transport) if Transport::of(issuer) == Some(transport) => {}
            _ => return Err(FetchError::KeysAddress(about.jwks_uri)),
        }
        let page = self.get(&about.jwks_uri).await?;
        let keys = KeySet::parse(&page.body)
            .map_err(|source| FetchError::Json { url: about.jwks_uri.clone(), source })?;
        if keys.is_empty() {
            return Err(FetchError::NoKeys(about.jwks_uri));
        }
        Ok(FetchedKeys { keys, fresh_for: age(page.cache_control.as_deref()) })
    }

    async fn get(&self, url: &str) -> Result<Page, FetchError> {
        let failed =
            |error: &dyn Error| FetchError::Http { url: url.to_owned(), problem: chain(error) };
        let mut request = HttpRequest::get(url).map_err(|error| failed(&error))?;
        request.headers_mut().insert("accept", "application/json");
        request
            .headers_mut()
            .insert("user-agent", concat!("snowbankd/", env!("CARGO_PKG_VERSION")));
        let answer = self.0.call(request).await.map_err(|error| failed(&error))?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(FetchError::Status { url: url.to_owned(), status });
        }
        let cache_control = answer.headers().get("cache-control").map(str::to_owned);
        let (mut stream, mut body) = (ByteStream::new(answer.into_body()), Vec::new());
        while let Some(bytes) = stream.try_next().await.map_err(|error| failed(&error))? {
            if body.len() + bytes.len() > MAX_BYTES {
                return Err(FetchError::TooLong(url.to_owned()));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Page { body, cache_control })
    }
}

/// What `Cache-Control` says, within bounds.
fn age(cache_control: Option<&str>) -> Duration {
    let directives = || cache_control.unwrap_or_default().split(',').map(str::trim);
    if directives()
        .any(|one| one.eq_ignore_ascii_case("no-store") || one.eq_ignore_ascii_case("no-cache"))
    {
        return MIN_AGE;
    }
    let seconds = directives()
        .find_map(|one| one.to_ascii_lowercase().strip_prefix("max-age=")?.parse().ok());
    seconds
        .map_or(DEFAULT_FRESH_FOR, |seconds| Duration::from_secs(seconds).clamp(MIN_AGE, MAX_AGE))
}

/// An error and its causes: the client's own say nothing.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_says_for_how_long_its_keys_are_good_within_bounds() {
        for (said, seconds) in [
            (None, 600),
            (Some("public"), 600),
            (Some("max-age=nonsense"), 600),
            (Some("public, max-age=3600, must-revalidate"), 3_600),
            (Some("Max-Age=0"), 60),
            (Some("max-age=99999999"), 86_400),
            (Some("no-store"), 60),
            (Some("max-age=3600, no-cache"), 60),
        ] {
            assert_eq!(age(said).as_secs(), seconds, "{said:?}");
        }
    }
}
