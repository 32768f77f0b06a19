//! The keys that an issuer publishes (RFC 7517): those that sign, each with the algorithms that it
//! is for.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// An issuer's keys by their ids.
#[derive(Debug, Default)]
pub(super) struct KeySet(HashMap<String, IssuerKey>);

/// A key that verifies.
#[derive(Debug)]
pub(super) struct IssuerKey {
    /// What it may be used with, whatever a token's header says.
    pub algorithms: Vec<Algorithm>,
    /// The key.
    pub key: DecodingKey,
}

/// Whether an issuer may sign by it: whoever can verify must not be able to sign.
pub(super) fn is_asymmetric(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

impl KeySet {
    /// Reads a key set. Keys that are for something else, of an unknown kind or without an id are
    /// left out.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json)?;
        let mut keys = HashMap::new();
        // One by one: an issuer may have a key of a kind that this version cannot even read.
        for jwk in set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()) {
            if let (Some(kid), Some(key)) = (jwk.common.key_id.clone(), IssuerKey::of(&jwk)) {
                keys.entry(kid).or_insert(key);
            }
        }
        Ok(Self(keys))
    }

    pub fn get(&self, kid: &str) -> Option<&IssuerKey> {
        self.0.get(kid)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IssuerKey {
    fn of(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = common
            .public_key_use
            .as_ref()
            .is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
            && common
                .key_operations
                .as_ref()
                .is_none_or(|list| list.contains(&KeyOperations::Verify));
        let possible: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                &[Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                &[Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => &[],
        };
        let algorithms = match common.key_algorithm {
            Some(own) => {
                let own = Algorithm::try_from(own).ok()?;
                possible.iter().copied().filter(|one| *one == own).collect()
            }
            None => possible.to_vec(),
        };
        if !signs || algorithms.is_empty() {
            return None;
        }
        Some(Self { algorithms, key: DecodingKey::from_jwk(jwk).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn algorithms(key: &Value) -> Option<Vec<Algorithm>> {
        let set = KeySet::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap();
        set.get("k").map(|key| key.algorithms.clone())
    }

    #[test]
    fn the_key_says_which_algorithms_it_is_for() {
        let rsa = |more: Value| {
            let mut key = json!({"kid": "k", "kty": "RSA", "n": "AQAB", "e": "AQAB"});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        assert_eq!(
            algorithms(&rsa(json!({"alg": "RS256", "use": "sig"}))).unwrap(),
            [Algorithm::RS256]
        );
        assert_eq!(algorithms(&rsa(json!({"alg": "PS256"}))).unwrap(), [Algorithm::PS256]);
        assert_eq!(algorithms(&rsa(json!({}))).unwrap().len(), 6);
        let p256 = json!({"kid": "k", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"});
        assert_eq!(algorithms(&p256).unwrap(), [Algorithm::ES256]);
        let ed25519 =
            json!({"kid": "k", "kty": "OKP", "crv": "Ed25519", "x": "AA", "alg": "EdDSA"});
        assert_eq!(algorithms(&ed25519).unwrap(), [Algorithm::EdDSA]);
        for unfit in [
            json!({"kid": "k", "kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
            json!({"kid": "k", "kty": "oct", "k": "c2VjcmV0"}),
            rsa(json!({"alg": "HS256"})),
            rsa(json!({"alg": "RSA-OAEP"})),
            rsa(json!({"alg": "ES256"})),
            rsa(json!({"use": "enc"})),
            rsa(json!({"key_ops": ["encrypt"]})),
            json!({"kid": "k", "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kid": "k", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "alg": "ES384"}),
            json!({"kid": "k", "kty": "AKP", "pub": "AA"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            json!("no key"),
        ] {
            assert_eq!(algorithms(&unfit), None, "{unfit}");
        }
    }

    #[test]
    fn an_unreadable_key_does_not_take_the_others_with_it() {
        let set =
            json!({"keys": [{"kid": 7}, {"kid": "k", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]});
        assert!(KeySet::parse(set.to_string().as_bytes()).unwrap().get("k").is_some());
        for bad in ["", "[]", "{}", "{\"keys\": 1}"] {
            assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
