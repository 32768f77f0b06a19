//! Where the configuration lives, from the environment as it was when the process started.

use std::env;
use std::path::PathBuf;

use super::ConfigError;

/// The system-wide configuration, read beneath the user's: `SNOWBANK_SYSTEM_CONFIG`, else
/// `/etc/snowbank/client.toml`.
pub(crate) fn system_config() -> PathBuf {
    let named = env::var_os("SNOWBANK_SYSTEM_CONFIG").filter(|file| !file.is_empty());
    named.map_or_else(|| PathBuf::from("/etc/snowbank/client.toml"), PathBuf::from)
}

/// The user's configuration folder: `$XDG_CONFIG_HOME`, else `~/.config`. A relative
/// `XDG_CONFIG_HOME` is ignored, as the XDG base directory specification says.
pub(crate) fn config_home() -> Result<PathBuf, ConfigError> {
    let from = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    from("XDG_CONFIG_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".config")))
        .ok_or(ConfigError::NoHome)
}
