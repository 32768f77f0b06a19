//! An issuer of tokens for CI jobs: plain HTTP on a loopback address, with keys that it can
//! exchange, and the bad habits of issuers. And keys that sign tokens, for whoever else needs some.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{Request, Response, StatusCode, body::Incoming};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

use crate::{
    loopback::{AnyBody, BoxError, Handle, Loopback, full, lock},
    process,
};

/// Where an issuer publishes its keys.
const KEYS: &str = "/keys";
/// Where its jobs request tokens.
const JOB_TOKEN: &str = "/job-token";
/// For whom its jobs request tokens unless a test says otherwise.
pub const AUDIENCE: &str = "https://cache.example.org";

/// A key that signs tokens: Ed25519, P-256 or RSA.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// What its tokens name it by.
    pub kid: String,
    algorithm: Algorithm,
    pkcs8: Vec<u8>,
    public: Vec<u8>,
}

impl SigningKey {
    /// A new key for `EdDSA`, ES256 or RS256.
    #[must_use]
    pub fn new(kid: &str, algorithm: Algorithm) -> Self {
        let made = match algorithm {
            Algorithm::EdDSA => ed25519(),
            Algorithm::ES256 => p256(),
            Algorithm::RS256 => rsa(),
            other => panic!("no keys for {other:?} are made here"),
        };
        let (pkcs8, public) = made.unwrap_or_else(|e| panic!("no key for {algorithm:?}: {e}"));
        Self { kid: kid.to_owned(), algorithm, pkcs8, public }
    }

    /// Its private half, in PEM.
    #[must_use]
    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// Its public half, in PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public)
    }

    fn encoding_key(&self) -> EncodingKey {
        let pem = self.private_pem();
        let key = match self.algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        key.unwrap_or_else(|e| panic!("a key that was just made: {e}"))
    }

    /// Signs claims.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        let token = jsonwebtoken::encode(&header, claims, &self.encoding_key());
        token.unwrap_or_else(|e| panic!("a token: {e}"))
    }

    fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.encoding_key(), self.algorithm);
        let jwk = jwk.unwrap_or_else(|e| panic!("a key as JWK: {e}"));
        let mut jwk = serde_json::to_value(jwk).unwrap_or_else(|e| panic!("a JWK as JSON: {e}"));
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }
}

type Halves = Result<(Vec<u8>, Vec<u8>), aws_lc_rs::error::Unspecified>;

fn ed25519() -> Halves {
    let pair = Ed25519KeyPair::generate()?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
    Ok((pair.to_pkcs8v1()?.as_ref().to_vec(), public.as_ref().to_vec()))
}

fn p256() -> Halves {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
    Ok((pair.to_pkcs8v1()?.as_ref().to_vec(), public.as_ref().to_vec()))
}

fn rsa() -> Halves {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?;
    let (pkcs8, public): (Pkcs8V1Der<'_>, PublicKeyX509Der<'_>) =
        (pair.as_der()?, pair.public_key().as_der()?);
    Ok((pkcs8.as_ref().to_vec(), public.as_ref().to_vec()))
}

fn pem(kind: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// The time now, in Unix seconds.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An issuer. Ends when it is dropped.
#[derive(Debug)]
pub struct Issuer(Loopback<Desk>);

#[derive(Debug)]
struct Desk {
    url: String,
    state: Mutex<State>,
    asked: AtomicUsize,
}

#[derive(Debug)]
struct State {
    keys: Vec<SigningKey>,
    is_silent: bool,
}

impl Issuer {
    /// An issuer that publishes these keys.
    #[must_use]
    pub fn start(keys: Vec<SigningKey>) -> Self {
        let address = process::own_address();
        let state = Mutex::new(State { keys, is_silent: false });
        let desk = Desk { url: format!("http://{address}"), state, asked: AtomicUsize::new(0) };
        Self(Loopback::start(address, desk))
    }

    /// An issuer with one key.
    #[must_use]
    pub fn with_one_key() -> Self {
        Self::start(vec![SigningKey::new("key-1", Algorithm::ES256)])
    }

    /// Its address, which its tokens name as their issuer.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.handler().url.clone()
    }

    /// Requests so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.0.handler().asked.load(Ordering::SeqCst)
    }

    /// Publishes other keys from now on.
    pub fn publish(&self, keys: Vec<SigningKey>) {
        lock(&self.0.handler().state).keys = keys;
    }

    /// From now on answers nothing, and keeps connections open; or answers again.
    pub fn be_silent(&self, is_silent: bool) {
        lock(&self.0.handler().state).is_silent = is_silent;
    }

    /// Cuts every connection and refuses new ones.
    pub fn go_away(&self) {
        self.0.close();
    }

    /// Is there again.
    pub fn come_back(&self) {
        self.0.open();
    }

    /// The claims of a job of `team/app` on its main branch, with a token for the next five
    /// minutes.
    #[must_use]
    pub fn job(&self) -> Value {
        self.job_for(AUDIENCE)
    }

    /// The same for another audience.
    #[must_use]
    pub fn job_for(&self, audience: &str) -> Value {
        self.0.handler().job(audience)
    }

    /// A token with these claims, signed with its first key.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        let key = lock(&self.0.handler().state).keys.first().cloned();
        key.unwrap_or_else(|| panic!("this issuer has no key")).sign(claims)
    }

    /// An entry of a config file that lets jobs of `team` do this on these caches.
    #[must_use]
    pub fn config(&self, caches: &str, permissions: &[&str]) -> String {
        format!(
            "[[auth.oidc]]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\nname \
             = \"forge\"\n[auth.oidc.claims]\n\
             repository = \"team/*\"\nref = \
             [\"refs/heads/main\", \"refs/tags/*\"]\n[auth.oidc.permissions]\n\
             \"{caches}\" = {permissions:?}\n",
            self.url()
        )
    }
}

impl Desk {
    fn job(&self, audience: &str) -> Value {
        let now = unix_now();
        json!({
            "iss": self.url, "aud": audience, "sub": "repo:team/app:ref:refs/heads/main",
            "jti": format!("job-{now}"), "iat": now, "nbf": now, "exp": now + 300,
            "repository": "team/app", "repository_owner": "team", "ref": "refs/heads/main",
        })
    }

    /// What a job gets that requests a token, as from GitHub.
    fn hand_out(&self, query: &str) -> Value {
        let audience = query.split('&').find_map(|one| one.strip_prefix("audience="));
        let claims = self.job(audience.unwrap_or(AUDIENCE));
        json!({"value": lock(&self.state).keys.first().map(|key| key.sign(&claims))})
    }
}

impl Handle for Desk {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AnyBody>, BoxError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (keys, is_silent) = {
            let state = lock(&self.state);
            (state.keys.iter().map(SigningKey::jwk).collect::<Vec<_>>(), state.is_silent)
        };
        if is_silent {
            return std::future::pending().await;
        }
        let (status, body) = match request.uri().path() {
            "/.well-known/openid-configuration" => (
                StatusCode::OK,
                json!({"issuer": self.url, "jwks_uri": format!("{}{KEYS}", self.url)}),
            ),
            KEYS => (StatusCode::OK, json!({"keys": keys})),
            JOB_TOKEN => (StatusCode::OK, self.hand_out(request.uri().query().unwrap_or_default())),
            _ => (StatusCode::NOT_FOUND, Value::Null),
        };
        let mut response = Response::new(full(body.to_string()));
        *response.status_mut() = status;
        Ok(response)
    }
}
