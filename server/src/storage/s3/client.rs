//! The SDK's client, set so that every S3-compatible service understands it and nothing waits for
//! what is not there.
//!
//! Checksum extensions only where an operation requires them; the SDK's own retries and stream
//! protection are off, since `calls` and `stall` see to both; the system's certificates and proxy
//! variables hold.

use std::fs;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector, proxy::ProxyConfig};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::super::StorageError;
use super::credentials;
use super::stall::PatientClient;
use crate::config::S3Config;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for this service, with credentials that have been found.
///
/// # Errors
/// [`StorageError::Settings`] when there are no credentials, or `ca-file` cannot be read.
pub(super) async fn connect(config: &S3Config) -> Result<Client, StorageError> {
    let http = http_client(config)?;
    let credentials = credentials::find(config, &http).await?;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(config.request_timeout.duration()))
        .build();
    let mut settings = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .credentials_provider(credentials)
        .http_client(http)
        .force_path_style(config.path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = &config.endpoint {
        settings = settings.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(settings.build()))
}

fn http_client(config: &S3Config) -> Result<SharedHttpClient, StorageError> {
    let mut trust = TrustStore::default();
    if let Some(path) = &config.ca_file {
        let pem = fs::read(path).map_err(|error| {
            StorageError::Settings(format!(
                "cannot read `[storage] ca-file`, {}: {error}",
                path.display()
            ))
        })?;
        if !pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") {
            let message = format!(
                "`[storage] ca-file`, {}, has no certificate in PEM format",
                path.display()
            );
            return Err(StorageError::Settings(message));
        }
        trust = trust.with_pem_certificate(pem);
    }
    let tls = TlsContext::builder().with_trust_store(trust).build();
    let tls =
        tls.map_err(|error| StorageError::Settings(format!("`[storage] ca-file`: {error}")))?;
    let inner = Builder::new().build_with_connector_fn(move |settings, _| {
        let mut connector: aws_smithy_http_client::ConnectorBuilder<_> = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.clone())
            .proxy_config(ProxyConfig::from_env())
            .enable_tcp_nodelay(true);
        if let Some(settings) = settings {
            connector.set_connector_settings(Some(settings.clone()));
        }
        connector.build()
    });
    Ok(SharedHttpClient::new(PatientClient { inner, patience: config.request_timeout.duration() }))
}
