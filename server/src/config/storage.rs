//! `[storage]`: where packs live, a folder of this machine or a bucket of an S3-compatible service.

use std::env;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::Problem;
use super::secret::{self, SecretString};
use super::storage_cache::{CacheConfig, CacheSection};
use super::{ConfigError, absolute, beside};
use super::{Seconds, Size};

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct StorageSection {
    r#type: StorageType,
    path: Option<PathBuf>,
    min_free: Option<Size>,
    bucket: Option<String>,
    prefix: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    access_key_id: Option<String>,
    secret_access_key: Option<SecretString>,
    session_token: Option<SecretString>,
    credentials_file: Option<PathBuf>,
    profile: Option<String>,
    instance_metadata: Option<bool>,
    ca_file: Option<PathBuf>,
    request_timeout: Option<Seconds>,
    retry_for: Option<Seconds>,
    max_requests: Option<usize>,
    memory_in_flight: Option<Size>,
    cache: Option<CacheSection>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StorageType {
    #[default]
    Local,
    S3,
}

/// Which object storage to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageConfig {
    /// A folder of this machine.
    Local {
        /// The folder, absolute.
        path: PathBuf,
    },
    /// A bucket.
    S3(Box<S3Config>),
}

/// A bucket of an S3-compatible service, and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket's name.
    pub bucket: String,
    /// What every key begins with: empty, or ending in a slash.
    pub prefix: String,
    /// The service's address; without one it is AWS.
    pub endpoint: Option<String>,
    /// The region to sign for.
    pub region: String,
    /// Whether the bucket is named in the path rather than in the host name.
    pub path_style: bool,
    /// Where credentials come from.
    pub credentials: CredentialsConfig,
    /// Certificates (PEM) of authorities to believe beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long an attempt at a request may stand still.
    pub request_timeout: Seconds,
    /// How long an operation is tried again after its first failure.
    pub retry_for: Seconds,
    /// Requests at the same time.
    pub max_requests: usize,
    /// Bytes that the bodies of requests under way may take together.
    pub memory_in_flight: Size,
    /// Where parts of packs are kept on this machine.
    pub cache: CacheConfig,
}

/// Where credentials come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialsConfig {
    /// Written in the config file.
    pub fixed: Option<FixedCredentials>,
    /// A file in the format of `~/.aws/credentials`; no other source is asked then.
    pub file: Option<PathBuf>,
    /// A profile by name; no other source is asked then.
    pub profile: Option<String>,
    /// Whether the metadata service of an EC2 instance is asked.
    pub instance_metadata: bool,
}

/// An access key as it is written in the config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedCredentials {
    /// Its public part.
    pub access_key_id: String,
    /// Its secret part.
    pub secret_access_key: SecretString,
    /// What temporary keys have beside.
    pub session_token: Option<SecretString>,
}

impl StorageSection {
    /// Says which key does not go with which value, or with a file that others can read.
    pub(super) fn validate(&self, config_file: Option<&Path>) -> Result<(), Problem> {
        if let Some(mode) =
            self.secret_access_key.as_ref().and(config_file).and_then(secret::exposed_mode)
        {
            let message = format!(
                "others can read this file (mode {mode:04o}). Run: chmod 600 {}; or give the \
                 server another source of credentials, such as AWS_SECRET_ACCESS_KEY or \
                 `credentials-file`",
                config_file.unwrap_or(Path::new("FILE")).display()
            );
            return Err(Problem { key: &["storage", "secret-access-key"], message });
        }
        match self.r#type {
            StorageType::Local => self.validate_local(),
            StorageType::S3 => self.validate_s3(),
        }
    }

    fn validate_local(&self) -> Result<(), Problem> {
        let for_s3: [(&'static [&'static str], bool); 17] = [
            (&["storage", "bucket"], self.bucket.is_some()),
            (&["storage", "prefix"], self.prefix.is_some()),
            (&["storage", "endpoint"], self.endpoint.is_some()),
            (&["storage", "region"], self.region.is_some()),
            (&["storage", "path-style"], self.path_style.is_some()),
            (&["storage", "access-key-id"], self.access_key_id.is_some()),
            (&["storage", "secret-access-key"], self.secret_access_key.is_some()),
            (&["storage", "session-token"], self.session_token.is_some()),
            (&["storage", "credentials-file"], self.credentials_file.is_some()),
            (&["storage", "profile"], self.profile.is_some()),
            (&["storage", "instance-metadata"], self.instance_metadata.is_some()),
            (&["storage", "ca-file"], self.ca_file.is_some()),
            (&["storage", "request-timeout"], self.request_timeout.is_some()),
            (&["storage", "retry-for"], self.retry_for.is_some()),
            (&["storage", "max-requests"], self.max_requests.is_some()),
            (&["storage", "memory-in-flight"], self.memory_in_flight.is_some()),
            (&["storage", "cache"], self.cache.is_some()),
        ];
        match for_s3.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(Problem {
                key,
                message: "is for a bucket; say `type = \"s3\"` as well, or leave it out".to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn validate_s3(&self) -> Result<(), Problem> {
        let problem = |key, message: &str| Err(Problem { key, message: message.to_owned() });
        if self.path.is_some() {
            return problem(
                &["storage", "path"],
                "is for `type = \"local\"`; a bucket has `bucket` and `prefix`",
            );
        }
        match self.bucket.as_deref() {
            None | Some("") => {
                return problem(
                    &["storage", "type"],
                    "with \"s3\", `bucket` has to name the bucket",
                );
            }
            Some(bucket)
                if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) =>
            {
                return problem(
                    &["storage", "bucket"],
                    "is not a bucket's name: letters, digits, `.`, `-` and `_`",
                );
            }
            Some(_) => {}
        }
        let plain = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_key_byte)
        };
        let prefix = self.prefix.as_deref().unwrap_or_default().trim_matches('/');
        if !prefix.is_empty() && !prefix.split('/').all(plain) {
            return problem(
                &["storage", "prefix"],
                "is not a key's beginning: letters, digits, `.`, `-` and `_`, with single slashes \
                 between",
            );
        }
        if let Some(endpoint) = &self.endpoint {
            let uri: Option<axum::http::Uri> = endpoint.parse().ok();
            let good = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.host().is_some_and(|host| !host.is_empty())
                    && uri.query().is_none()
            });
            if !good || endpoint.contains('@') {
                return problem(
                    &["storage", "endpoint"],
                    "is not an http or https address, such as \"https://s3.example.org\"; the \
                     bucket goes into `bucket`",
                );
            }
        } else if self.region_or_environment().is_none() {
            return problem(
                &["storage", "type"],
                "with \"s3\", say `region` (the bucket's, such as \"eu-central-1\"), or `endpoint` \
                 for a service other than AWS",
            );
        }
        self.validate_credentials()?;
        self.validate_limits()?;
        self.cache.as_ref().map_or(Ok(()), CacheSection::validate)
    }

    /// One source of credentials at most, and that one whole.
    fn validate_credentials(&self) -> Result<(), Problem> {
        let problem = |key, message: &str| Err(Problem { key, message: message.to_owned() });
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => {
                return problem(
                    &["storage", "access-key-id"],
                    "needs `secret-access-key` beside it",
                );
            }
            (None, Some(_)) => {
                return problem(
                    &["storage", "secret-access-key"],
                    "needs `access-key-id` beside it",
                );
            }
            (Some(_), Some(_)) if self.credentials_file.is_some() || self.profile.is_some() => {
                return problem(
                    &["storage", "access-key-id"],
                    "is one source of credentials, `credentials-file` or `profile` another; say \
                     only one of them",
                );
            }
            (None, None) if self.session_token.is_some() => {
                return problem(
                    &["storage", "session-token"],
                    "needs `access-key-id` and `secret-access-key` beside it",
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), Problem> {
        let problem = |key, message: &str| Err(Problem { key, message: message.to_owned() });
        if self.request_timeout.is_some_and(|time| !(1..=600).contains(&time.get())) {
            return problem(
                &["storage", "request-timeout"],
                "is out of bounds; allowed are 1s to 10m",
            );
        }
        if self.retry_for.is_some_and(|time| time.get() > 600) {
            return problem(
                &["storage", "retry-for"],
                "is out of bounds; allowed are 0s (never again) to 10m",
            );
        }
        if self.max_requests.is_some_and(|count| !(1..=4096).contains(&count)) {
            return problem(
                &["storage", "max-requests"],
                "is out of bounds; allowed are 1 to 4096",
            );
        }
        if self.memory_in_flight.is_some_and(|size| size < Size::from_mib(32)) {
            return problem(
                &["storage", "memory-in-flight"],
                "is too little; allowed is 32MiB or more",
            );
        }
        Ok(())
    }

    fn region_or_environment(&self) -> Option<String> {
        let variable = |name| env::var(name).ok().map(|text| text.trim().to_owned());
        let region = self
            .region
            .clone()
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"));
        region.filter(|region| !region.is_empty())
    }

    /// What is to stay free on disks, where it is said.
    pub(super) fn min_free(&self) -> Option<Size> {
        self.min_free
    }

    /// For a folder, the default is one in the data folder; a relative path is relative to the
    /// config file.
    pub(super) fn resolve(
        self,
        data_dir: &Path,
        config_dir: Option<&Path>,
    ) -> Result<StorageConfig, ConfigError> {
        let file = |path: PathBuf| absolute(&beside(config_dir, &path));
        if self.r#type == StorageType::Local {
            let path = self.path.map_or_else(|| Ok(data_dir.join("storage")), file)?;
            return Ok(StorageConfig::Local { path });
        }
        let region = self.region_or_environment().unwrap_or_else(|| "auto".to_owned());
        let prefix = self.prefix.as_deref().unwrap_or_default().trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let fixed = self.access_key_id.zip(self.secret_access_key).map(
            |(access_key_id, secret_access_key)| FixedCredentials {
                access_key_id,
                secret_access_key,
                session_token: self.session_token,
            },
        );
        Ok(StorageConfig::S3(Box::new(S3Config {
            bucket: self.bucket.unwrap_or_default(),
            prefix,
            path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
            endpoint: self.endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()),
            region,
            credentials: CredentialsConfig {
                fixed,
                file: self.credentials_file.map(file).transpose()?,
                profile: self.profile,
                instance_metadata: self.instance_metadata.unwrap_or(false),
            },
            ca_file: self.ca_file.map(file).transpose()?,
            request_timeout: self.request_timeout.unwrap_or(Seconds::new(30)),
            retry_for: self.retry_for.unwrap_or(Seconds::new(60)),
            max_requests: self.max_requests.unwrap_or(64),
            memory_in_flight: self.memory_in_flight.unwrap_or(Size::from_mib(128)),
            cache: self.cache.unwrap_or_default().resolve(data_dir, config_dir)?,
        })))
    }
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_".contains(&byte)
}
