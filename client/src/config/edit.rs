//! Writing what `snowbank login` learnt: the server into `client.toml`, the token into a file of
//! its own.
//!
//! The token is written before the configuration names its server, each by atomic replacement, with
//! the configuration's folder locked; comments, order and unrelated keys of `client.toml` stay as
//! they are.

use std::path::{Path, PathBuf};
use std::{fs, io};

use toml_edit::{DocumentMut, Item, Table, TableLike, value};

use super::{
    ClientCertificate, ClientConfig, ConfigError, FolderLock, Secret, ServerName, write_atomically,
    write_secret,
};

/// What to remember.
pub struct Login {
    /// The server's short name.
    pub name: ServerName,
    /// Its address, normalized.
    pub url: String,
    /// The token for it.
    pub token: Secret,
    /// The certificate to show from now on; without one, an entry that has one keeps it.
    pub client_certificate: Option<ClientCertificate>,
    /// Whether it becomes the default server even if there is one.
    pub make_default: bool,
}

/// Writes `login` to the configuration file `path` and to `tokens/NAME` beside it. Returns the
/// token's file, and whether the server is now that file's default.
///
/// # Errors
/// A file that cannot be read or written, or an existing one that is not a configuration.
pub async fn remember(path: &Path, login: &Login) -> Result<(PathBuf, bool), ConfigError> {
    let _lock = FolderLock::of(path).await?;
    let old = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(ConfigError::Read { path: path.to_owned(), source });
        }
    };
    let (new, is_default) = edited(path, &old, login)?;

    let token_file =
        path.parent().unwrap_or(Path::new("")).join("tokens").join(login.name.as_str());
    let line = zeroize::Zeroizing::new(format!("{}\n", login.token.expose()));
    write_secret(&token_file, line.as_bytes())?;
    if new != old {
        write_atomically(path, new.as_bytes())?;
    }
    Ok((token_file, is_default))
}

/// The text `old` of a `client.toml` with `login` in it, and whether its server is the default.
fn edited(path: &Path, old: &str, login: &Login) -> Result<(String, bool), ConfigError> {
    // First as the configuration that it must be: what is wrong is said with line and key, and
    // nothing is written.
    let before = ClientConfig::parse(path, old)?;
    let invalid = |message: String| ConfigError::Invalid { path: path.to_owned(), message };
    let mut document: DocumentMut = old.parse().map_err(|error| invalid(format!("{error}")))?;

    let make_default = login.make_default || before.default_server.is_none();
    if make_default {
        set(document.as_table_mut(), "default-server", login.name.as_str());
    }
    let servers = document.entry("servers").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let servers = servers
        .as_table_like_mut()
        .ok_or_else(|| invalid("`servers` is not a table".to_owned()))?;
    let server = servers.entry(login.name.as_str()).or_insert_with(|| Item::Table(Table::new()));
    let server = server
        .as_table_like_mut()
        .ok_or_else(|| invalid(format!("`servers.{}` is not a table", login.name)))?;
    set(server, "url", &login.url);
    if let Some(own) = &login.client_certificate {
        set(server, "client-certificate-file", &own.certificate_file.to_string_lossy());
        set(server, "client-key-file", &own.key_file.to_string_lossy());
    }
    // The token's own file is where it is looked for unless another is named; that other one would
    // win.
    server.remove("token-file");
    let is_default = make_default || before.default_server.as_ref() == Some(&login.name);
    Ok((document.to_string(), is_default))
}

/// Sets `key` to `text`; the comments around it stay.
fn set(table: &mut dyn TableLike, key: &str, text: &str) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = text.into();
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, value(text))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn login(name: &str, url: &str) -> Login {
        Login {
            name: name.parse().unwrap(),
            url: url.to_owned(),
            token: Secret::from_text("t0ken").unwrap(),
            client_certificate: None,
            make_default: false,
        }
    }

    #[tokio::test]
    async fn the_first_login_is_the_default_and_later_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("snowbank/client.toml");
        let (token_file, is_default) = remember(&path, &login("a", "http://a")).await.unwrap();
        assert!(is_default);
        assert_eq!(fs::read_to_string(&token_file).unwrap(), "t0ken\n");
        assert_eq!(fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!remember(&path, &login("b", "http://b")).await.unwrap().1);

        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("t0ken"), "{text}");
        let config = ClientConfig::parse(&path, &text).unwrap();
        assert_eq!(config.default_server.unwrap().as_str(), "a");
        assert_eq!(
            config.servers[&"b".parse().unwrap()].token_file,
            Some(root.path().join("snowbank/tokens/b"))
        );

        let mut again = login("b", "http://b");
        again.make_default = true;
        assert!(remember(&path, &again).await.unwrap().1);
    }

    #[test]
    fn what_is_there_is_kept() {
        let old = "# mine\ndefault-server = \"x\" # the one\n\n[servers.x]\nurl = \"http://x\" # \
            here\ntoken-file = \"/t\"\n\n[servers.a]\n# old address\nurl = \"http://old\"\n";
        let (new, is_default) = edited(Path::new("/c"), old, &login("a", "http://new")).unwrap();
        assert_eq!(new, old.replace("http://old", "http://new"));
        assert!(!is_default);
        assert_eq!(edited(Path::new("/c"), &new, &login("a", "http://new")).unwrap().0, new);
        let mut default = login("a", "http://new");
        default.make_default = true;
        let (new, _) = edited(Path::new("/c"), &new, &default).unwrap();
        assert!(new.starts_with("# mine\ndefault-server = \"a\" # the one\n"), "{new}");
    }

    #[test]
    fn a_client_certificate_is_remembered_and_stays() {
        let mut first = login("a", "https://a");
        first.client_certificate = Some(ClientCertificate {
            certificate_file: "/c/me.pem".into(),
            key_file: "/c/me.key".into(),
        });
        let path = Path::new("/c/client.toml");
        let (text, _) = edited(path, "", &first).unwrap();
        let (again, _) = edited(path, &text, &login("a", "https://a")).unwrap();
        let config = ClientConfig::parse(path, &again).unwrap();
        assert_eq!(config.servers[&first.name].client_certificate, first.client_certificate);
    }

    #[tokio::test]
    async fn a_broken_configuration_is_not_written_over() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("client.toml");
        fs::write(&path, "defaultserver = 1\n").unwrap();
        assert!(remember(&path, &login("a", "http://a")).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "defaultserver = 1\n");
        assert!(!root.path().join("tokens").exists());
    }
}
