//! The client's own configuration: which files there are, which server they mean, where its token
//! comes from.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::report::Finding;
use crate::cli::GlobalArgs;
use crate::config::{ClientConfig, ConfigError, TargetServer, system_config};

const CONFIGURATION: &str = "configuration";
const TOKEN: &str = "token";

/// Every configuration file that counts, read.
pub(super) fn files(global: &GlobalArgs) -> Vec<Finding> {
    let (mut read, mut absent, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    for path in ClientConfig::user_file(global).into_iter().chain([system_config()]) {
        match ClientConfig::read(&path) {
            Ok(Some(_)) => read.push(path.display().to_string()),
            Ok(None) => absent.push(path.display().to_string()),
            Err(error) => findings.push(Finding::of_failure(CONFIGURATION, error)),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CONFIGURATION,
            if read.is_empty() {
                format!("there is none ({})", absent.join(", "))
            } else {
                format!("read from {}", read.join(", then "))
            },
        ));
    }
    findings
}

/// A server that cannot be told from the configuration.
pub(super) fn no_server(error: ConfigError) -> Finding {
    Finding::of_failure("server", error)
}

/// Where the token comes from, and who can read it there.
pub(super) fn token(server: &TargetServer) -> Finding {
    let source = &server.token_source;
    if server.token.is_none() {
        return Finding::ok(TOKEN, "there is none: public caches can be read, and nothing else");
    }
    match fs::metadata(source) {
        Ok(metadata) if metadata.is_file() && metadata.mode() & 0o004 != 0 => {
            Finding::warn(TOKEN, format!("everybody on this machine can read it in {source}"))
                .advice(format!("chmod 600 {source}"))
        }
        _ => Finding::ok(TOKEN, format!("read from {source}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::report::Status;
    use super::*;
    use crate::config::{PathFilter, Secret};

    #[test]
    fn a_token_that_everybody_can_read_is_a_warning_and_one_for_a_group_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let server = TargetServer {
            name: None,
            url: "http://h".to_owned(),
            token: Secret::from_text("t0ken"),
            token_source: path.clone(),
            client_certificate: None,
            filter: PathFilter::NONE,
        };
        for (mode, status) in [(0o600, Status::Ok), (0o640, Status::Ok), (0o644, Status::Warn)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let finding = token(&server);
            assert_eq!(finding.status, status, "{mode:o}");
            assert_eq!(
                finding.advice.is_some_and(|advice| advice.contains(&path)),
                status == Status::Warn
            );
        }
    }
}
