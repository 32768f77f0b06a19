//! Which certificate authorities the environment names.

use std::env;
use std::path::PathBuf;

/// Files of certificate authorities to trust instead of the system's; the first that is set counts,
/// as with Nix.
const CERTIFICATE_VARIABLES: [&str; 2] = ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"];

/// The file of certificates that the environment names, and the variable that does.
pub(super) fn certificate_file() -> Option<(&'static str, PathBuf)> {
    let of = |variable| {
        env::var_os(variable).filter(|file| !file.is_empty()).map(|file| (variable, file.into()))
    };
    CERTIFICATE_VARIABLES.into_iter().find_map(of)
}
