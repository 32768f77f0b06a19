//! From what the command line says to a server, a cache and a token.

use std::fmt;

use snowbank_core::cache_name::CacheName;

use super::{
    ClientCertificate, ClientConfig, ConfigError, Environment, PathFilter, Secret, Server,
    ServerName, TokenSource,
};
use crate::cli::GlobalArgs;

/// A cache on a server, and how to prove that one may use it.
#[derive(Clone)]
pub struct Target {
    /// The server's address, without a slash at the end.
    pub server_url: String,
    /// The cache.
    pub cache: CacheName,
    /// The token, if there is one: public caches are read without.
    pub token: Option<Secret>,
    /// Where the token came from, for error messages: a file, a variable, or "no token".
    pub token_source: String,
    /// The certificate to show.
    pub client_certificate: Option<ClientCertificate>,
    /// The paths that are not pushed to the server.
    pub filter: PathFilter,
}

/// A server alone: a [`Target`] without its cache.
#[derive(Clone)]
pub struct TargetServer {
    /// The name in the configuration; none for `SNOWBANK_URL`.
    pub name: Option<ServerName>,
    /// The server's address, without a slash at the end.
    pub url: String,
    /// The token, if there is one.
    pub token: Option<Secret>,
    /// Where the token came from.
    pub token_source: String,
    /// The certificate to show.
    pub client_certificate: Option<ClientCertificate>,
    /// The paths that are not pushed there.
    pub filter: PathFilter,
}

impl TargetServer {
    /// A cache on this server.
    #[must_use]
    pub fn cache(&self, cache: CacheName) -> Target {
        Target {
            server_url: self.url.clone(),
            cache,
            token: self.token.clone(),
            token_source: self.token_source.clone(),
            client_certificate: self.client_certificate.clone(),
            filter: self.filter.clone(),
        }
    }

    /// A target for questions about no cache; its cache only fills the place.
    #[must_use]
    pub(crate) fn without_cache(&self) -> Target {
        self.cache(CacheName::main())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("server_url", &self.server_url)
            .field("cache", &self.cache)
            .field("token_source", &self.token_source)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TargetServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetServer")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("token_source", &self.token_source)
            .finish_non_exhaustive()
    }
}

/// The cache that `[SERVER:]CACHE` means, with its server's address and token.
///
/// # Errors
/// A reference of another form, an unknown server, a configuration or token file that cannot be
/// used.
pub fn resolve_target(global: &GlobalArgs, reference: &str) -> Result<Target, ConfigError> {
    let (server, cache) = split_cache_reference(reference)?;
    Ok(resolve_server(global, server)?.cache(cache))
}

/// The server of that name, or the one meant when none is named.
///
/// # Errors
/// As [`resolve_target`].
pub fn resolve_server(
    global: &GlobalArgs,
    name: Option<&str>,
) -> Result<TargetServer, ConfigError> {
    let environment = Environment::read()?;
    let config = ClientConfig::load(global)?;
    choose(&config, &environment, name)
}

/// Splits `[SERVER:]CACHE` and checks both parts' form.
///
/// # Errors
/// [`ConfigError::BadCache`], or [`ConfigError::BadServerName`].
pub fn split_cache_reference(reference: &str) -> Result<(Option<&str>, CacheName), ConfigError> {
    let (server, cache) = match reference.split_once(':') {
        Some((server, cache)) => (Some(server), cache),
        None => (None, reference),
    };
    if let Some(server) = server {
        server.parse::<ServerName>()?;
    }
    let cache = cache.parse::<CacheName>().map_err(|error| ConfigError::BadCache {
        given: reference.to_owned(),
        reason: error.to_string(),
    })?;
    Ok((server, cache))
}

/// The choice itself, from values.
fn choose(
    config: &ClientConfig,
    environment: &Environment,
    name: Option<&str>,
) -> Result<TargetServer, ConfigError> {
    let (server, from_environment) = match (name, &environment.url) {
        (Some(name), _) => (named(config, name)?, false),
        (None, Some(url)) => {
            let known = config.servers.iter().find(|(_, server)| server.url == *url);
            let server = known.map(|(name, server)| (Some(name.clone()), server.clone()));
            let unnamed = || Server {
                url: url.clone(),
                token_file: None,
                client_certificate: None,
                filter: PathFilter::NONE,
            };
            (server.unwrap_or_else(|| (None, unnamed())), true)
        }
        (None, None) => (default_server(config)?, false),
    };
    let (name, server) = server;

    // The environment's token and certificate belong to the environment's server: with SNOWBANK_URL
    // set, another server never gets them.
    let may_use_environment = from_environment || environment.url.is_none();
    let source = environment
        .token
        .clone()
        .filter(|_| may_use_environment)
        .or_else(|| server.token_file.clone().map(TokenSource::File));
    let (token, token_source) = match source {
        Some(source) => (Some(source.read()?), source.to_string()),
        None => (None, "no token".to_owned()),
    };
    let client_certificate = environment
        .client_certificate
        .clone()
        .filter(|_| may_use_environment)
        .or(server.client_certificate);
    let (url, filter) = (server.url, server.filter);
    Ok(TargetServer { name, url, token, token_source, client_certificate, filter })
}

fn named(config: &ClientConfig, name: &str) -> Result<(Option<ServerName>, Server), ConfigError> {
    let key: ServerName = name.parse()?;
    let server = config.servers.get(&key).cloned().ok_or_else(|| {
        let names: Vec<&str> = config.servers.keys().map(ServerName::as_str).collect();
        let known = if names.is_empty() {
            "none is configured".to_owned()
        } else {
            format!("known: {}", names.join(", "))
        };
        ConfigError::UnknownServer { name: name.to_owned(), known }
    })?;
    Ok((Some(key), server))
}

fn default_server(config: &ClientConfig) -> Result<(Option<ServerName>, Server), ConfigError> {
    if let Some(name) = &config.default_server {
        return named(config, name.as_str());
    }
    let mut servers = config.servers.iter();
    match (servers.next(), servers.next()) {
        (Some((name, server)), None) => Ok((Some(name.clone()), server.clone())),
        (None, _) => Err(ConfigError::NoServer(
            "no server is configured: run `snowbank login NAME URL`, or set SNOWBANK_URL and \
             SNOWBANK_TOKEN",
        )),
        (Some(_), Some(_)) => Err(ConfigError::NoServer(
            "several servers are configured and none is the default: write SERVER:CACHE, or set \
             `default-server` in client.toml",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ClientConfig {
        ClientConfig::parse(std::path::Path::new("/c/client.toml"), text).unwrap()
    }

    fn token_file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn two_servers(token: &std::path::Path) -> ClientConfig {
        config(&format!(
            "default-server = 'a'\n[servers.a]\nurl = 'http://a'\ntoken-file = \
             '{0}'\n[servers.b]\nurl = 'http://b'\ntoken-file = '{0}'\n",
            token.display()
        ))
    }

    fn environment(url: Option<&str>, token: Option<&str>) -> Environment {
        Environment {
            url: url.map(str::to_owned),
            token: token.map(|token| {
                TokenSource::Variable("SNOWBANK_TOKEN", Secret::from_text(token).unwrap())
            }),
            client_certificate: None,
        }
    }

    fn exposed(server: &TargetServer) -> Option<&str> {
        server.token.as_ref().map(Secret::expose)
    }

    #[test]
    fn the_default_server_is_used_with_its_token_file() {
        let file = token_file(" filed\n");
        let server = choose(&two_servers(file.path()), &environment(None, None), None).unwrap();
        assert_eq!((server.url.as_str(), exposed(&server)), ("http://a", Some("filed")));
        assert!(server.token_source.contains(file.path().to_str().unwrap()));
    }

    #[test]
    fn the_environments_server_wins_over_the_default() {
        let file = token_file("filed");
        let config = two_servers(file.path());
        let server = choose(&config, &environment(Some("http://e"), Some("t")), None).unwrap();
        assert_eq!((server.url.as_str(), exposed(&server)), ("http://e", Some("t")));
        let server = choose(&config, &environment(Some("http://e"), None), None).unwrap();
        assert_eq!(exposed(&server), None);
        let server = choose(&config, &environment(Some("http://b"), None), None).unwrap();
        assert_eq!(exposed(&server), Some("filed"));
    }

    #[test]
    fn the_environments_token_never_goes_to_another_server_than_its_own() {
        let file = token_file("filed");
        let config = two_servers(file.path());
        let server = choose(&config, &environment(Some("http://e"), Some("t")), Some("b")).unwrap();
        assert_eq!((server.url.as_str(), exposed(&server)), ("http://b", Some("filed")));
        let server = choose(&config, &environment(None, Some("t")), Some("b")).unwrap();
        assert_eq!(exposed(&server), Some("t"));
    }

    #[test]
    fn the_environments_certificate_goes_where_its_token_goes() {
        let named = |name: &str| ClientCertificate {
            certificate_file: format!("/{name}.pem").into(),
            key_file: format!("/{name}.key").into(),
        };
        let config = config(
            "default-server = 'a'\n[servers.a]\nurl = 'https://a'\nclient-certificate-file = \
             '/a.pem'\nclient-key-file = '/a.key'\n[servers.b]\nurl = 'https://b'\n",
        );
        let with = |url, name| {
            let client_certificate = Some(named("e"));
            let environment = Environment { client_certificate, ..environment(url, None) };
            choose(&config, &environment, name).unwrap().client_certificate
        };
        assert_eq!(with(None, None), Some(named("e")));
        assert_eq!(with(Some("https://e"), None), Some(named("e")));
        assert_eq!(with(Some("https://e"), Some("a")), Some(named("a")));
        assert_eq!(with(Some("https://e"), Some("b")), None);
    }

    #[test]
    fn a_missing_or_empty_token_file_is_named() {
        let config = two_servers(std::path::Path::new("/nowhere/token"));
        let error = choose(&config, &environment(None, None), None).unwrap_err();
        assert!(error.to_string().contains("/nowhere/token"), "{error}");
        let file = token_file(" \n\t");
        let error = choose(&two_servers(file.path()), &environment(None, None), None).unwrap_err();
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn an_unknown_or_missing_server_is_an_error_that_says_what_to_run() {
        let error = choose(&config(""), &environment(None, None), None).unwrap_err();
        assert!(error.to_string().contains("snowbank login"), "{error}");
        let error = choose(&config(""), &environment(None, None), Some("x")).unwrap_err();
        assert!(error.to_string().contains("snowbank login x"), "{error}");
    }

    #[test]
    fn one_server_needs_no_default() {
        let server =
            choose(&config("[servers.only]\nurl = 'http://o'\n"), &environment(None, None), None)
                .unwrap();
        assert_eq!(server.url, "http://o");
    }

    #[test]
    fn references_split_at_the_first_colon() {
        let (server, cache) = split_cache_reference("work:main").unwrap();
        assert_eq!((server, cache.as_str()), (Some("work"), "main"));
        assert!(split_cache_reference("main").unwrap().0.is_none());
        for bad in ["", ":main", "work:", "a:b:c", "work:a/b"] {
            assert!(split_cache_reference(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_output_has_no_token() {
        let server = choose(
            &config("[servers.o]\nurl = 'http://o'\n"),
            &environment(None, Some("s3cret")),
            None,
        );
        let server = server.unwrap();
        assert!(!format!("{server:?}").contains("s3cret"));
        assert!(!format!("{:?}", server.cache("main".parse().unwrap())).contains("s3cret"));
    }
}
