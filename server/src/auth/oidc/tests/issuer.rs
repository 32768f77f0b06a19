//! An issuer on a loopback address, and the keys that it signs with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";
pub(super) const KEYS: &str = "/keys";

/// A key of an issuer's.
pub(super) struct Signer {
    pub kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    pub fn new(algorithm: Algorithm) -> Self {
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_der(
                Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref(),
            ),
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
            }
            _ => {
                let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
                let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
                // RSAPrivateKey stands at the end of its PKCS #8 wrapping, after 26 bytes for this
                // size.
                EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..])
            }
        };
        Self { kid: format!("{algorithm:?}-1"), algorithm, key }
    }

    pub fn named(self, kid: &str) -> Self {
        Self { kid: kid.to_owned(), ..self }
    }

    pub fn jwk(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap())
                .unwrap();
        jwk["kid"] = json!(self.kid);
        jwk
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(claims, &|_| {})
    }

    pub fn sign_with(&self, claims: &Value, change: &dyn Fn(&mut Header)) -> String {
        let mut header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        change(&mut header);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

/// What an address answers.
#[derive(Clone)]
pub(super) enum Answer {
    Text(String),
    /// The connection stays open and nothing comes.
    Silence,
}

impl Answer {
    pub fn ok(body: &str) -> Self {
        Self::Text(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    pub fn status(status: u16) -> Self {
        Self::Text(format!(
            "HTTP/1.1 {status} Some\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ))
    }

    pub fn redirect(to: &str) -> Self {
        Self::Text(format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ))
    }
}

struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    asked: AtomicUsize,
}

/// The issuer; ends when it is dropped.
pub(super) struct TestIssuer {
    pub url: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl TestIssuer {
    pub async fn start(signers: &[Signer]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let document = json!({"issuer": url, "jwks_uri": format!("{url}{KEYS}")}).to_string();
        let keys = json!({"keys": signers.iter().map(Signer::jwk).collect::<Vec<_>>()}).to_string();
        let answers = [(DISCOVERY, document), (KEYS, keys)];
        let answers = answers.map(|(path, body)| (path.to_owned(), Answer::ok(&body)));
        let shared = Arc::new(Shared {
            answers: Mutex::new(HashMap::from(answers)),
            asked: AtomicUsize::new(0),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&shared)));
        Self { url, shared, _serving: serving }
    }

    pub fn set(&self, path: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, Arc::clone(&shared)));
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let answer =
        shared.answers.lock().unwrap().get(path).cloned().unwrap_or_else(|| Answer::status(404));
    match answer {
        Answer::Text(text) => {
            // The client may have heard enough.
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Answer::Silence => std::future::pending().await,
    }
}
