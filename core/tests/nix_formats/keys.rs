//! Keys and signatures of real Nix, and of any seed.

use proptest::prelude::*;
use snowbank_core::narinfo::NarInfo;
use snowbank_core::signing::{PublicKey, SecretKey, Signature};
use snowbank_core::store_path::StoreDir;

use crate::golden_text;

const NAMES: [&str; 2] = ["golden.example.org-1", "golden.example.org-2"];

fn secret(name: &str) -> SecretKey {
    SecretKey::parse(golden_text(&format!("{name}.secret")).trim()).unwrap()
}

#[test]
fn keys_of_nix_are_read_and_written_the_same() {
    for name in NAMES {
        let text = golden_text(&format!("{name}.secret"));
        assert_eq!(secret(name).to_nix().as_str(), text);
        assert_eq!(secret(name).name(), name);
        assert_eq!(secret(name).public().to_string(), golden_text(&format!("{name}.public")));
    }
}

#[test]
fn signatures_of_nix_verify_and_ours_are_the_same() {
    let public: Vec<PublicKey> =
        NAMES.iter().map(|name| golden_text(&format!("{name}.public")).parse().unwrap()).collect();
    let files =
        ["built.none", "built.xz", "text-with-references.zstd", "recursive.zstd", "flat.none"];
    for file in files {
        let store_dir = StoreDir::default();
        let info = NarInfo::parse(&store_dir, &golden_text(&format!("{file}.narinfo"))).unwrap();
        let fingerprint = info.fingerprint(&store_dir);
        assert!(!info.signatures.is_empty());
        for signature in &info.signatures {
            assert_eq!(&secret(signature.name()).sign(fingerprint.as_bytes()), signature, "{file}");
            let verified =
                public.iter().filter(|key| key.verify(fingerprint.as_bytes(), signature)).count();
            assert_eq!(verified, 1, "{file}");
        }
        let other_dir = info.fingerprint(&StoreDir::new("/gnu/store").unwrap());
        assert!(!public[0].verify(other_dir.as_bytes(), &info.signatures[0]), "{file}");
    }
}

proptest! {
    #[test]
    fn any_key_signs_and_comes_back(seed: [u8; 32], name in "[!-9;-~é]{1,20}", message: Vec<u8>) {
        let secret = SecretKey::from_seed(&name, seed).unwrap();
        let read = SecretKey::parse(&secret.to_nix()).unwrap();
        let signature = read.sign(&message);
        prop_assert_eq!(&signature, &secret.sign(&message));
        let public: PublicKey = secret.public().to_string().parse().unwrap();
        prop_assert!(public.verify(&message, &signature.to_string().parse().unwrap()));
    }

    #[test]
    fn a_flipped_bit_does_not_verify(seed: [u8; 32], message: Vec<u8>, bit in 0_usize..512) {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let secret = SecretKey::from_seed("k", seed).unwrap();
        let mut bytes = secret.sign(&message).as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let signature: Signature = format!("k:{}", STANDARD.encode(bytes)).parse().unwrap();
        prop_assert!(!secret.public().verify(&message, &signature));
    }

    #[test]
    fn any_text_is_a_key_or_not(text in "[a-z: ]{0,3}:?([A-Za-z0-9+/]{42,86}={0,2}|\\PC*)") {
        if let Ok(key) = text.parse::<PublicKey>() {
            prop_assert_eq!(key.to_string(), text.clone());
        }
        if let Ok(signature) = text.parse::<Signature>() {
            prop_assert_eq!(signature.to_string(), text.clone());
        }
        if let Ok(key) = SecretKey::parse(&text) {
            prop_assert!(*key.to_nix() == text);
        }
    }
}
