//! Where a request carries its token: `Authorization: Bearer TOKEN`, or Basic with the token as the
//! password, which is what a netrc line makes Nix send. The user name of Basic says nothing.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::secrets::SecretString;

/// The request's token, if it carries one; not verified.
#[must_use]
pub fn extract_token(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.trim().split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return non_empty(credentials);
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(credentials).ok()?);
        let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        return non_empty(password.trim());
    }
    None
}

fn non_empty(token: &str) -> Option<SecretString> {
    (!token.is_empty()).then(|| SecretString::new(token))
}
