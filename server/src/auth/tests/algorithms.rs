//! Keys of every algorithm: what each signs it believes, and nothing that is dressed up as its own.

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::TokenAlgorithm;

fn keys() -> Vec<TokenKey> {
    TokenAlgorithm::ALL
        .into_iter()
        .map(|one| TokenKey::generate_for(one, Some(one.to_string())).unwrap())
        .collect()
}

fn ring_of(keys: &[TokenKey]) -> Ring {
    Ring::new(keys, Revocations::default())
}

#[test]
fn every_algorithm_signs_what_it_verifies_also_after_it_was_sealed() {
    let (keys, sealer) = (keys(), Sealer::new(&[1; 32]));
    let ring = ring_of(&keys);
    for key in &keys {
        let token = key.issue(&claims()).unwrap();
        let header = jsonwebtoken::decode_header(token.expose()).unwrap();
        assert_eq!(
            (format!("{:?}", header.alg), header.kid.as_deref()),
            (key.algorithm().to_string(), Some(key.kid()))
        );
        assert_eq!(ring.verify(token.expose(), NOW).unwrap().sub, "ci");

        let row = key.seal(&sealer, NOW).unwrap();
        let opened = TokenKey::open(&row, &sealer).unwrap();
        assert!(opened.can_sign());
        ring.verify(opened.issue(&claims()).unwrap().expose(), NOW).unwrap();
        let other = db::keys::SealedTokenKey { algorithm: "ES384".to_owned(), ..row };
        assert!(matches!(TokenKey::open(&other, &sealer), Err(AuthError::WrongAlgorithm)));
    }
}

#[test]
fn a_sealed_key_is_opened_for_its_own_algorithm_only() {
    let sealer = Sealer::new(&[1; 32]);
    for key in keys().iter().filter(|key| key.algorithm() != TokenAlgorithm::Hs256) {
        for algorithm in TokenAlgorithm::ALL.into_iter().filter(|one| *one != TokenAlgorithm::Hs256)
        {
            let row = key.seal(&sealer, NOW).unwrap();
            let relabelled = db::keys::SealedTokenKey { algorithm: algorithm.to_string(), ..row };
            let opened = TokenKey::open(&relabelled, &sealer);
            assert_eq!(
                opened.is_ok(),
                algorithm == key.algorithm(),
                "{} as {algorithm}",
                key.kid()
            );
        }
    }
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let keys = keys();
    let ring = ring_of(&keys);
    let plain = serde_json::to_value(claims()).unwrap();
    for key in keys.iter().filter(|key| key.algorithm() != TokenAlgorithm::Hs256) {
        let (own, verifying) = key.verifier();
        let public = verifying.try_get_as_bytes().unwrap().to_vec();
        let pem = pem("PUBLIC KEY", &public);
        for secret in [public.as_slice(), pem.as_bytes(), b""] {
            let token = signed(&header(Some(key.kid()), Algorithm::HS256), &plain, secret);
            assert!(matches!(ring.verify(&token, NOW), Err(AuthError::WrongAlgorithm)), "{own:?}");
            // The same signature under the right name.
            let (_, rest) = token.split_once('.').unwrap();
            let (_, signature) = rest.split_once('.').unwrap();
            let renamed = unsigned(&json!({"alg": own, "kid": key.kid()}), &plain) + signature;
            assert!(matches!(ring.verify(&renamed, NOW), Err(AuthError::BadSignature)), "{own:?}");
        }
    }
}

#[test]
fn a_token_of_one_key_is_no_token_of_another() {
    let keys = keys();
    let ring = ring_of(&keys);
    for key in &keys {
        let token = key.issue(&claims()).unwrap();
        let (message, signature) = token.expose().rsplit_once('.').unwrap();
        let payload = message.split_once('.').unwrap().1;
        let with_header = |header: &Value| {
            format!("{}.{payload}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()))
        };
        for other in keys.iter().filter(|other| other.kid() != key.kid()) {
            // Its own algorithm with another's id, and the other way round, and all of the other's.
            let error = |alg: TokenAlgorithm, kid: &str| {
                ring.verify(&with_header(&json!({"alg": alg.as_str(), "kid": kid})), NOW)
                    .unwrap_err()
            };
            assert!(matches!(error(key.algorithm(), other.kid()), AuthError::WrongAlgorithm));
            assert!(matches!(error(other.algorithm(), key.kid()), AuthError::WrongAlgorithm));
            assert!(matches!(error(other.algorithm(), other.kid()), AuthError::BadSignature));
        }
        for none in ["none", "None", "NONE", "nOnE", ""] {
            let token = with_header(&json!({"alg": none, "kid": key.kid()}));
            assert!(matches!(ring.verify(&token, NOW), Err(AuthError::Malformed)), "{none}");
        }
        let alg = key.algorithm().as_str();
        let critical = with_header(&json!({"alg": alg, "kid": key.kid(), "crit": ["exp"]}));
        assert!(matches!(ring.verify(&critical, NOW), Err(AuthError::Malformed)));
        // Keys that a token brings along, or points at, are not looked at.
        let brought = json!({"alg": alg, "kid": "absent", "jku": "https://x.example/", "x5u": "https://x.example/"});
        assert!(matches!(ring.verify(&with_header(&brought), NOW), Err(AuthError::UnknownKey)));
        // Another signature by the same key is as good; a cut one is not.
        ring.verify(key.issue(&claims()).unwrap().expose(), NOW).unwrap();
        let cut = format!("{message}.{}", &signature[..signature.len() - 4]);
        assert!(matches!(
            ring.verify(&cut, NOW),
            Err(AuthError::BadSignature | AuthError::Malformed)
        ));
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn write(folder: &Path, contents: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    let path = folder.join("key");
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// A private key in each of its forms, and its public half.
struct Exported {
    algorithm: TokenAlgorithm,
    private: Vec<String>,
    public: String,
}

fn exported() -> [Exported; 3] {
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let spki = |der: &PublicKeyX509Der<'_>| pem("PUBLIC KEY", der.as_ref());
    let sec1: EcPrivateKeyRfc5915Der<'_> = p256.private_key().as_der().unwrap();
    let rsa_pkcs8: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    // RSAPrivateKey stands at the end of its PKCS #8 wrapping, after 26 bytes for this size.
    let pkcs1 = &rsa_pkcs8.as_ref()[26..];
    [
        Exported {
            algorithm: TokenAlgorithm::EdDsa,
            private: vec![
                pem("PRIVATE KEY", ed25519.to_pkcs8v1().unwrap().as_ref()),
                pem("PRIVATE KEY", ed25519.to_pkcs8().unwrap().as_ref()),
            ],
            public: spki(&ed25519.public_key().as_der().unwrap()),
        },
        Exported {
            algorithm: TokenAlgorithm::Es256,
            private: vec![
                pem("PRIVATE KEY", p256.to_pkcs8v1().unwrap().as_ref()),
                pem("EC PRIVATE KEY", sec1.as_ref()),
            ],
            public: spki(&p256.public_key().as_der().unwrap()),
        },
        Exported {
            algorithm: TokenAlgorithm::Rs256,
            private: vec![pem("PRIVATE KEY", rsa_pkcs8.as_ref()), pem("RSA PRIVATE KEY", pkcs1)],
            public: spki(&rsa.public_key().as_der().unwrap()),
        },
    ]
}

#[test]
fn a_private_key_from_a_file_signs_and_a_public_one_verifies() {
    let (folder, sealer) = (tempfile::tempdir().unwrap(), Sealer::new(&[1; 32]));
    let read = |text: &str, mode| {
        TokenKey::from_file(&write(folder.path(), text, mode), None, Some("k".to_owned()))
    };
    for Exported { algorithm, private, public } in exported() {
        let half = read(&public, 0o644).unwrap();
        assert_eq!((half.algorithm(), half.can_sign()), (algorithm, false));
        assert!(matches!(half.issue(&claims()), Err(AuthError::VerifiesOnly { .. })));
        let half = TokenKey::open(&half.seal(&sealer, NOW).unwrap(), &sealer).unwrap();
        assert!(!half.can_sign());
        for text in private {
            let whole = read(&text, 0o600).unwrap();
            assert_eq!((whole.algorithm(), whole.can_sign()), (algorithm, true), "{}", &text[..30]);
            let token = whole.issue(&claims()).unwrap();
            for key in [&whole, &half] {
                Ring::new([key], Revocations::default()).verify(token.expose(), NOW).unwrap();
            }
            assert!(
                matches!(read(&text, 0o644), Err(AuthError::KeyFile(KeyFileError::File(_)))),
                "open to others"
            );
        }
    }
}

#[test]
fn a_secret_from_a_file_may_be_in_base64() {
    let folder = tempfile::tempdir().unwrap();
    let secret: Vec<u8> = (0..48).collect();
    let plain = serde_json::to_value(claims()).unwrap();
    let token = signed(&header(Some("k"), Algorithm::HS256), &plain, &secret);
    for contents in
        [BASE64_STANDARD.encode(&secret).into_bytes(), BASE64_STANDARD.encode(&secret).into_bytes()]
    {
        let path = write(folder.path(), [contents, b"\n".to_vec()].concat(), 0o600);
        let key =
            TokenKey::from_file(&path, Some(TokenAlgorithm::Hs256), Some("k".to_owned())).unwrap();
        assert!(key.can_sign());
        ring_of(&[key]).verify(&token, NOW).unwrap();
    }
    let raw = [0xff; 40];
    let key =
        TokenKey::from_file(&write(folder.path(), raw, 0o600), None, Some("k".to_owned())).unwrap();
    ring_of(&[key])
        .verify(&signed(&header(Some("k"), Algorithm::HS256), &plain, &raw), NOW)
        .unwrap();
}

#[test]
fn a_file_without_a_fitting_key_is_refused_with_what_would_fit() {
    let folder = tempfile::tempdir().unwrap();
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let p384_public: PublicKeyX509Der<'_> = p384.public_key().as_der().unwrap();
    let truncated = pem(
        "PRIVATE KEY",
        &Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref()[..40],
    );
    for text in [
        "too short a secret".to_owned(),
        BASE64_STANDARD.encode([7; 20]),
        pem("PRIVATE KEY", p384.to_pkcs8v1().unwrap().as_ref()),
        pem("PUBLIC KEY", p384_public.as_ref()),
        pem("CERTIFICATE", &[0x30, 0]),
        pem("ENCRYPTED PRIVATE KEY", &[0x30, 0]),
        pem("PRIVATE KEY", b"nonsense"),
        truncated,
        "-----BEGIN PRIVATE KEY-----\n".to_owned(),
    ] {
        let error =
            TokenKey::from_file(&write(folder.path(), &text, 0o600), None, None).expect_err(&text);
        assert!(matches!(error, AuthError::KeyFile(KeyFileError::NoKey(_))), "{error}");
        assert!(
            error.to_string().contains("PEM") && error.to_string().contains("32 bytes"),
            "{error}"
        );
    }
    let Exported { public, .. } = &exported()[0];
    let wrong = TokenKey::from_file(
        &write(folder.path(), public, 0o600),
        Some(TokenAlgorithm::Rs256),
        None,
    );
    let message = wrong.unwrap_err().to_string();
    assert!(message.contains("EdDSA") && message.contains("RS256"), "{message}");
}
