//! What operators run: each asks the server for one thing and prints its answer.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use reqwest::Method;
use serde::Serialize;
use snowbank_cli::args::{RotatedToken, only_valid_token};
use snowbank_cli::date::now;
use snowbank_cli::{ConfirmError, Render, format_answer};
use snowbank_core::store_path::StorePathHash;
use snowbank_core::token::named_id;
use snowbank_core::wire::admin::withdrawn::{WithdrawnPage, WithdrawnQuery};
use snowbank_core::wire::admin::{
    AfterQuery, AuditPage, CacheDetails, CacheList, CopiedPaths, CopyPaths, CreateCache,
    CreateToken, CreatedToken, DeletedPaths, PathDetails, PathPage, PathQueryText, PurgedCache,
    RenameCache, RevokedTokens, RotateKey, SecretText, TokenInfo, TokenList,
};

use crate::api::Api;
use crate::cli::GlobalArgs;
use crate::cli::operator::{
    AuditArgs, CacheArgs, CacheCommand, DeleteArgs, PathCommand, ServerArgs, TokenCommand,
};
use crate::config::{ConfigError, resolve_server, resolve_target};
use crate::exit::{Exit, Failure};
use crate::store::store_path_of;

/// `snowbank cache …`
///
/// # Errors
/// What the server refuses; a server that cannot be reached.
pub async fn cache(global: &GlobalArgs, command: CacheCommand) -> Result<Exit, Failure> {
    match command {
        CacheCommand::Create { target, new, changes } => {
            let api = cache_api(global, &target)?;
            let request = CreateCache {
                name: api.cache().to_string(),
                isolated: new.isolated,
                store_dir: new.store_dir,
                signing_key: new.signing_key_file.as_deref().map(signing_key).transpose()?,
                settings: changes.into_settings(),
            };
            let created: CacheDetails = api.change(Method::POST, "caches", &request).await?;
            print(target.json, &created)
        }
        CacheCommand::List(server) => {
            let (api, mut all, mut query) =
                (server_api(global, &server)?, CacheList::default(), AfterQuery::default());
            loop {
                let page: CacheList = api.ask_with("caches", &query).await?;
                all.caches.extend(page.caches);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            print(server.json, &all)
        }
        CacheCommand::Info(target) => {
            let api = cache_api(global, &target)?;
            let details: CacheDetails = api.ask(&format!("caches/{}/details", api.cache())).await?;
            print(target.json, &details)
        }
        CacheCommand::Configure { target, changes } => {
            let settings = changes.into_settings();
            if settings.is_empty() {
                let message = "say what to change; `snowbank cache configure --help` lists it";
                return Err(Failure::new(Exit::Usage, anyhow::anyhow!(message)));
            }
            let api = cache_api(global, &target)?;
            let details: CacheDetails =
                api.change(Method::PATCH, &format!("caches/{}", api.cache()), &settings).await?;
            print(target.json, &details)
        }
        CacheCommand::Rename { target, new } => {
            changed(global, &target, Method::POST, "/rename", &RenameCache { name: new }).await
        }
        CacheCommand::Destroy { target, yes } => {
            let api = cache_api(global, &target)?;
            if !yes {
                let what =
                    format!("This takes the cache `{}` out of sight for everybody.", api.cache());
                confirm(&what, api.cache().as_str())?;
            }
            changed(global, &target, Method::DELETE, "", &()).await
        }
        CacheCommand::Restore(target) => {
            changed(global, &target, Method::POST, "/restore", &()).await
        }
        CacheCommand::Purge { target, yes } => {
            let api = cache_api(global, &target)?;
            if !yes {
                let what = format!(
                    "This removes the destroyed cache `{}` and its keys for good.",
                    api.cache()
                );
                confirm(&what, api.cache().as_str())?;
            }
            let purged: PurgedCache =
                api.change(Method::POST, &format!("caches/{}/purge", api.cache()), &()).await?;
            print(target.json, &purged)
        }
        CacheCommand::RotateKey { target, overlap, signing_key_file } => {
            let signing_key = signing_key_file.as_deref().map(signing_key).transpose()?;
            changed(
                global,
                &target,
                Method::POST,
                "/rotate-key",
                &RotateKey { overlap, signing_key },
            )
            .await
        }
        CacheCommand::Copy { from, to, paths, json } => {
            let source = resolve_target(global, &from)?;
            let api = Api::new(&source)?;
            let to: snowbank_core::cache_name::CacheName =
                to.parse().map_err(|error: snowbank_core::cache_name::CacheNameError| {
                    ConfigError::BadCache { given: to.clone(), reason: error.to_string() }
                })?;
            let paths = paths.iter().map(|path| resolved(path)).collect();
            let request = CopyPaths { from: source.cache.to_string(), paths };
            let copied: CopiedPaths =
                api.change(Method::POST, &format!("caches/{to}/copy"), &request).await?;
            print(json, &copied)
        }
    }
}

/// `snowbank token …`
///
/// # Errors
/// As [`cache`].
pub async fn token(global: &GlobalArgs, command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create { token, server } => {
            let request = CreateToken::from(token);
            let created: CreatedToken =
                server_api(global, &server)?.change(Method::POST, "tokens", &request).await?;
            print_token(server.json, &created)
        }
        TokenCommand::List(server) => {
            print(server.json, &all_tokens(&server_api(global, &server)?).await?)
        }
        TokenCommand::Show { id, server } => {
            let info: TokenInfo = server_api(global, &server)?
                .ask(&format!("tokens/{}", segment(&id_of(&id)?)?))
                .await?;
            print(server.json, &info)
        }
        TokenCommand::Revoke { mut tokens, server } => {
            // The server would recognize a token as well; an older one would not, and proxies write
            // down what they see.
            tokens.ids = tokens.ids.iter().map(|text| id_of(text)).collect::<Result<_, _>>()?;
            let request = tokens.into_request(now());
            let revoked: RevokedTokens = server_api(global, &server)?
                .change(Method::POST, "tokens/revoke", &request)
                .await?;
            print(server.json, &revoked)
        }
        TokenCommand::Rotate { token, server } => {
            let (api, (which, request)) = (server_api(global, &server)?, token.into_request());
            let id = match which {
                RotatedToken::Id(id) => id_of(&id)?,
                RotatedToken::OnlyOf(subject) => {
                    let tokens = all_tokens(&api).await?;
                    let only = only_valid_token(&tokens, &subject, now());
                    only.map_err(|error| Failure::new(Exit::Usage, error))?.id.clone()
                }
            };
            let path = format!("tokens/{}/rotate", segment(&id)?);
            let created: CreatedToken = api.change(Method::POST, &path, &request).await?;
            print_token(server.json, &created)
        }
    }
}

/// All tokens that the server issued.
async fn all_tokens(api: &Api) -> Result<TokenList, Failure> {
    let (mut all, mut query) = (TokenList::default(), AfterQuery::default());
    loop {
        let page: TokenList = api.ask_with("tokens", &query).await?;
        all.tokens.extend(page.tokens);
        query.after = page.next;
        if query.after.is_none() {
            return Ok(all);
        }
    }
}

/// `snowbank path …`
///
/// # Errors
/// As [`cache`].
pub async fn path(global: &GlobalArgs, command: PathCommand) -> Result<Exit, Failure> {
    match command {
        PathCommand::List { target, pattern } => {
            let api = cache_api(global, &target)?;
            let mut all = PathPage::default();
            // A word alone is looked for anywhere in a name.
            let pattern =
                pattern.map(|text| if text.contains('*') { text } else { format!("*{text}*") });
            let mut query = PathQueryText { pattern, after: None };
            loop {
                let page: PathPage =
                    api.ask_with(&format!("caches/{}/paths", api.cache()), &query).await?;
                all.paths.extend(page.paths);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            print(target.json, &all)
        }
        PathCommand::Withdrawn(target) => {
            let api = cache_api(global, &target)?;
            let mut all = WithdrawnPage::default();
            let mut query = WithdrawnQuery::default();
            loop {
                let path = format!("caches/{}/withdrawn", api.cache());
                let page: WithdrawnPage = api.ask_with(&path, &query).await?;
                all.paths.extend(page.paths);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            print(target.json, &all)
        }
        PathCommand::Info { target, path } => {
            let api = cache_api(global, &target)?;
            let hash = hash_part(&path)?;
            let details: PathDetails =
                api.ask(&format!("caches/{}/paths/{hash}", api.cache())).await?;
            print(target.json, &details)
        }
    }
}

/// `snowbank delete`
///
/// # Errors
/// As [`cache`].
pub async fn delete(global: &GlobalArgs, args: DeleteArgs) -> Result<Exit, Failure> {
    let api = cache_api(global, &args.target)?;
    let mut request =
        args.flags.into_request(args.paths.iter().map(|path| resolved(path)).collect());
    let path = format!("caches/{}/delete", api.cache());
    let mut answer: DeletedPaths = api.change(Method::POST, &path, &request).await?;
    if args.flags.asks() {
        writeln!(io::stderr(), "{}", answer.text())?;
        confirm("Nobody can fetch these paths any more then.", api.cache().as_str())?;
        request.dry_run = false;
        answer = api.change(Method::POST, &path, &request).await?;
    }
    print(args.target.json, &answer)
}

/// `snowbank audit`
///
/// # Errors
/// As [`cache`].
pub async fn audit(global: &GlobalArgs, args: AuditArgs) -> Result<Exit, Failure> {
    let (api, mut query, mut all) =
        (server_api(global, &args.server)?, args.query.into_query(), AuditPage::default());
    loop {
        let page: AuditPage = api.ask_with("audit", &query).await?;
        if !all.take(page, &mut query) {
            break;
        }
    }
    print(args.server.json, &all)
}

/// Asks for a change of the cache itself, and prints what it is then.
async fn changed(
    global: &GlobalArgs,
    target: &CacheArgs,
    method: Method,
    what: &str,
    body: &impl Serialize,
) -> Result<Exit, Failure> {
    let api = cache_api(global, target)?;
    let details: CacheDetails =
        api.change(method, &format!("caches/{}{what}", api.cache()), body).await?;
    print(target.json, &details)
}

pub(super) fn cache_api(global: &GlobalArgs, args: &CacheArgs) -> Result<Api, Failure> {
    Ok(Api::new(&resolve_target(global, &args.cache)?)?)
}

pub(super) fn server_api(global: &GlobalArgs, args: &ServerArgs) -> Result<Api, Failure> {
    Ok(Api::of_server(&resolve_server(global, args.server.as_deref())?)?)
}

/// The id that an argument names, which may be the token itself.
fn id_of(text: &str) -> Result<String, Failure> {
    named_id(text).map_err(|error| Failure::new(Exit::Usage, error))
}

/// An id as part of an address.
fn segment(id: &str) -> Result<&str, Failure> {
    if !id.is_empty()
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Ok(id);
    }
    Err(Failure::new(
        Exit::Usage,
        anyhow::anyhow!("`{id}` is not a token's id; `snowbank token list` shows them"),
    ))
}

/// What a person calls a path, as servers understand it: for a file or a symlink such as
/// `./result`, the base name of the store path that it leads to; any other text as it is.
pub(super) fn resolved(path: &str) -> String {
    let is_file = path.contains('/') || Path::new(path).is_symlink();
    let store_path = is_file.then(|| store_path_of(path).ok()).flatten();
    store_path.map_or_else(|| path.to_owned(), |store_path| store_path.base_name())
}

/// The 32 characters by which a path is known.
fn hash_part(path: &str) -> Result<String, Failure> {
    let path = resolved(path);
    let base = path.rsplit('/').next().unwrap_or_default();
    let hash = base.get(..32).and_then(|hash| StorePathHash::from_chars(hash.as_bytes()));
    let message =
        || anyhow::anyhow!("`{path}` is not a store path, its base name or its hash part");
    hash.map(|hash| hash.to_string()).ok_or_else(|| Failure::new(Exit::Usage, message()))
}

fn signing_key(file: &Path) -> Result<SecretText, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|source| ConfigError::Read { path: file.to_owned(), source })?;
    Ok(SecretText(text.trim().to_owned()))
}

/// Asks on the terminal for `word`, without which nothing is done.
pub(super) fn confirm(what: &str, word: &str) -> Result<(), Failure> {
    snowbank_cli::confirm(what, word).map_err(|error| match error {
        ConfirmError::Io(error) => error.into(),
        refused => Failure::new(Exit::Usage, refused),
    })
}

/// For people or for programs.
pub(super) fn print<T: Render + Serialize>(as_json: bool, answer: &T) -> Result<Exit, Failure> {
    let text =
        format_answer(as_json, answer).map_err(|error| Failure::new(Exit::Unexpected, error))?;
    writeln!(io::stdout(), "{text}")?;
    Ok(Exit::Success)
}

/// The token alone, or all of the answer as JSON.
fn print_token(as_json: bool, created: &CreatedToken) -> Result<Exit, Failure> {
    let text = if as_json { to_json(created)? } else { created.token.0.clone() };
    writeln!(io::stdout(), "{text}")?;
    Ok(Exit::Success)
}

fn to_json(answer: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(answer).map_err(|error| Failure::new(Exit::Unexpected, error))
}
