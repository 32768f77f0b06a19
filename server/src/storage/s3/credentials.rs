//! Where credentials come from, asked in a fixed order: the config file, the environment, a
//! profile, a web identity, a container's service, and, only where it is configured, an EC2
//! instance's.
//!
//! Put together by hand, since the SDK's own chain asks the instance's service on every host, and a
//! host that is no instance waits for it each time. A source whose variables or files are not there
//! is passed over without asking anyone.

use std::env;
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::credentials::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::config::Region;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::super::StorageError;
use crate::config::{FixedCredentials, S3Config};

/// How long one source may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first source that has credentials; it is asked again when they run out.
///
/// # Errors
/// [`StorageError::Settings`], which names every source that was asked and what it said.
pub(super) async fn find(
    config: &S3Config,
    http: &SharedHttpClient,
) -> Result<SharedCredentialsProvider, StorageError> {
    if let Some(fixed) = &config.credentials.fixed {
        return Ok(SharedCredentialsProvider::new(from_config(fixed)));
    }
    let mut asked = Vec::new();
    for source in sources(config, http) {
        let Some(provider) = source.provider else {
            asked.push(format!("{}: {}", source.name, source.absent));
            continue;
        };
        match tokio::time::timeout(PATIENCE, provider.provide_credentials()).await {
            Ok(Ok(_)) => {
                tracing::info!(source = source.name, "credentials of the storage found");
                return Ok(provider);
            }
            Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => {
                asked.push(format!("{}: {}", source.name, source.absent));
            }
            Ok(Err(error)) => asked.push(format!("{}: {}", source.name, chain(&error))),
            Err(_) => {
                asked.push(format!("{}: no answer within {} s", source.name, PATIENCE.as_secs()));
            }
        }
    }
    Err(StorageError::Settings(format!(
        "no credentials for the storage were found. Asked: {}. Set `access-key-id` and \
         `secret-access-key` in `[storage]`, or give the server one of these sources",
        asked.join("; ")
    )))
}

struct Source {
    name: &'static str,
    absent: &'static str,
    provider: Option<SharedCredentialsProvider>,
}

/// The sources in their order; one that is configured by name is the only one.
fn sources(config: &S3Config, http: &SharedHttpClient) -> Vec<Source> {
    let settings = ProviderConfig::without_region()
        .with_region(Some(Region::new(config.region.clone())))
        .with_http_client(http.clone());
    let wanted = &config.credentials;
    let profile = || {
        let mut builder = ProfileFileCredentialsProvider::builder().configure(&settings);
        if let Some(file) = &wanted.file {
            let files = EnvConfigFiles::builder()
                .with_file(EnvConfigFileKind::Credentials, file.clone())
                .build();
            builder = builder.profile_files(files);
        }
        if let Some(name) = &wanted.profile {
            builder = builder.profile_name(name);
        }
        SharedCredentialsProvider::new(builder.build())
    };
    if wanted.file.is_some() || wanted.profile.is_some() {
        let absent = "no such file or profile, or no credentials in it";
        return vec![Source {
            name: "`credentials-file` and `profile`",
            absent,
            provider: Some(profile()),
        }];
    }
    let has = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let container =
        has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || has("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let mut sources = vec![
        Source {
            name: "the config file",
            absent: "no `access-key-id`, `credentials-file` or `profile`",
            provider: None,
        },
        Source {
            name: "the environment",
            absent: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
            provider: Some(SharedCredentialsProvider::new(
                EnvironmentVariableCredentialsProvider::new(),
            )),
        },
        Source {
            name: "the profile files",
            absent: "no credentials in ~/.aws for AWS_PROFILE or `default`",
            provider: Some(profile()),
        },
        Source {
            name: "web identity",
            absent: "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are not set",
            provider: has("AWS_WEB_IDENTITY_TOKEN_FILE").then(|| {
                SharedCredentialsProvider::new(
                    WebIdentityTokenCredentialsProvider::builder().configure(&settings).build(),
                )
            }),
        },
        Source {
            name: "the container's service",
            absent: "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and …_FULL_URI are not set",
            provider: container.then(|| {
                SharedCredentialsProvider::new(
                    EcsCredentialsProvider::builder().configure(&settings).build(),
                )
            }),
        },
    ];
    sources.push(Source {
        name: "the instance's metadata",
        absent: if wanted.instance_metadata {
            "the service could not be reached, or has none; is this an EC2 instance with a role?"
        } else {
            "not asked, since `instance-metadata` is not true"
        },
        provider: wanted.instance_metadata.then(|| {
            SharedCredentialsProvider::new(
                ImdsCredentialsProvider::builder().configure(&settings).build(),
            )
        }),
    });
    sources
}

fn from_config(fixed: &FixedCredentials) -> Credentials {
    Credentials::new(
        fixed.access_key_id.trim(),
        fixed.secret_access_key.expose(),
        fixed.session_token.as_ref().map(|token| token.expose().to_owned()),
        None,
        "the config file",
    )
}

fn chain(error: &CredentialsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
