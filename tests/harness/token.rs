//! Tokens bent in every way that a server must notice.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The three parts of a JWT.
fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts
        .try_into()
        .unwrap_or_else(|parts: Vec<_>| panic!("a JWT has three parts, not {}", parts.len()))
}

fn decode(part: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .unwrap_or_else(|e| panic!("a part of a JWT is base64url: {e}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("a part of a JWT is JSON: {e}"))
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token's header.
#[must_use]
pub fn header(token: &str) -> Value {
    decode(parts(token)[0])
}

/// A token's claims.
#[must_use]
pub fn claims(token: &str) -> Value {
    decode(parts(token)[1])
}

/// The same token with `change` made to its claims, and the old signature.
#[must_use]
pub fn with_claims(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let [header, payload, signature] = parts(token);
    let mut claims = decode(payload);
    change(&mut claims);
    format!("{header}.{}.{signature}", encode(&claims))
}

/// The same claims and key id, said to be signed by nothing (`alg: none`), without a signature.
#[must_use]
pub fn unsigned(token: &str) -> String {
    let mut header = header(token);
    header["alg"] = json!("none");
    format!("{}.{}.", encode(&header), parts(token)[1])
}

/// The same claims, signed with another secret, under the same key id or another.
#[must_use]
pub fn forged(token: &str, algorithm: Algorithm, kid: Option<&str>) -> String {
    let own = header(token);
    let mut header = Header::new(algorithm);
    header.kid = kid.or_else(|| own["kid"].as_str()).map(str::to_owned);
    jsonwebtoken::encode(
        &header,
        &claims(token),
        &EncodingKey::from_secret(b"not the server's secret, but long enough"),
    )
    .unwrap_or_else(|e| panic!("a forged token: {e}"))
}
