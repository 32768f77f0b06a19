//! `snowbank login`: remembers a server and its token, after asking the server whether it takes it.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::api::Api;
use crate::cli::{GlobalArgs, LoginArgs};
use crate::config::{
    ClientCertificate, ClientConfig, ConfigError, Environment, Login, PathFilter, Secret,
    ServerName, TargetServer, normalized_url, read_token, read_token_file, remember, system_config,
};
use crate::exit::{Exit, Failure};

/// What errors and messages call standard input.
const STANDARD_INPUT: &str = "standard input";

/// Nothing of the argument is repeated: it may be a token of any form, or a part of one.
const TOKEN_AS_ARGUMENT: &str = "a token is not taken as an argument, where `ps` shows it to every \
    user of this machine; give it on standard input (`snowbank login NAME URL < FILE`, in CI \
    `printenv TOKEN | snowbank login NAME URL`), with `--token-file FILE`, or in the variable \
    SNOWBANK_TOKEN";

/// Runs `snowbank login`.
///
/// # Errors
/// A token as an argument, no token, a server that cannot be reached or refuses it, a file that
/// cannot be written.
pub async fn run(global: &GlobalArgs, args: LoginArgs) -> Result<Exit, Failure> {
    if !args.surplus.is_empty() {
        return Err(Failure::new(Exit::Usage, anyhow::anyhow!(TOKEN_AS_ARGUMENT)));
    }
    let name: ServerName = args.name.parse()?;
    let url = normalized_url(&args.url)?;
    let config_file = if args.system { system_config() } else { ClientConfig::user_file(global)? };
    let (token, token_source) = token(&args).await?;
    let client_certificate = ClientCertificate::of_arguments(
        args.client_certificate_file.as_deref(),
        args.client_key_file.as_deref(),
    )?;
    let whoami = if args.offline {
        None
    } else {
        let known = match &client_certificate {
            Some(own) => Some(own.clone()),
            None => known_certificate(&config_file, &name, &url)?,
        };
        let asked = TargetServer {
            name: None,
            url: url.clone(),
            token: Some(token.clone()),
            token_source: token_source.clone(),
            client_certificate: known,
            filter: PathFilter::NONE,
        };
        Some(Api::of_server(&asked)?.whoami().await?)
    };

    let make_default = args.default;
    let login = Login { name, url, token, client_certificate, make_default };
    let (token_file, is_default) = remember(&config_file, &login).await.map_err(|error| {
        let failure = Failure::from(error);
        if args.system {
            failure.context("--system writes the whole machine's files: run it as root")
        } else {
            failure
        }
    })?;
    if !global.quiet {
        let subject =
            whoami.as_ref().map_or_else(String::new, |whoami| format!(" as {}", whoami.subject));
        let default = if is_default { ", the default server" } else { "" };
        let mut text = format!("Logged in to {} ({}){subject}{default}.\n", login.name, login.url);
        // Writing to a string does not fail.
        let _ = writeln!(text, "The token from {token_source} is now in {}.", token_file.display());
        for (pattern, permissions) in whoami.iter().flat_map(|whoami| &whoami.caches) {
            let _ = writeln!(text, "  {pattern}: {}", permissions.join(", "));
        }
        io::stderr().write_all(text.as_bytes())?;
    }
    Ok(Exit::Success)
}

/// The certificate that the environment names, or the entry of this server in the file that is to be
/// written.
fn known_certificate(
    config_file: &Path,
    name: &ServerName,
    url: &str,
) -> Result<Option<ClientCertificate>, ConfigError> {
    if let Some(own) = ClientCertificate::of_environment()? {
        return Ok(Some(own));
    }
    let config = ClientConfig::read(config_file)?.unwrap_or_default();
    let entry = config.servers.get(name).filter(|server| server.url == url);
    Ok(entry.and_then(|server| server.client_certificate.clone()))
}

/// The token, and where it came from: `--token-file`, the environment, standard input.
async fn token(args: &LoginArgs) -> Result<(Secret, String), Failure> {
    if let Some(file) = &args.token_file {
        return Ok((read_token_file(file)?, file.display().to_string()));
    }
    if let Some(source) = Environment::read_token()? {
        return Ok((source.read()?, source.to_string()));
    }
    let secret = if io::stdin().is_terminal() {
        prompt(&format!("Token for {}: ", args.url)).await?
    } else {
        blocking(|| Ok(read_token(io::stdin().lock(), STANDARD_INPUT)?)).await?
    };
    Ok((secret, STANDARD_INPUT.to_owned()))
}

/// Asks on the terminal, without echo.
async fn prompt(question: &str) -> Result<Secret, Failure> {
    io::stderr().write_all(question.as_bytes())?;
    // Held by this future, not by the thread that waits for the line: a signal drops the future,
    // and the echo is back.
    let echo = EchoGuard::new()?;
    let line = blocking(|| {
        let mut line = Zeroizing::new(String::with_capacity(4096));
        io::stdin().lock().read_line(&mut line)?;
        Ok(line)
    })
    .await;
    drop(echo);
    io::stderr().write_all(b"\n")?;
    Ok(read_token(line?.as_bytes(), STANDARD_INPUT)?)
}

/// Runs what waits for input on a thread of its own, so that signals are still answered.
async fn blocking<T: Send + 'static>(
    wait: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(wait)
        .await
        .map_err(|error| Failure::new(Exit::Unexpected, error))?
}

/// While it lives, the terminal does not show what is typed.
struct EchoGuard(Termios);

impl EchoGuard {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
