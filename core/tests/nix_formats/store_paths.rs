//! Store paths and nix32 under any input.

use proptest::prelude::*;
use snowbank_core::hash::Sha256;
use snowbank_core::store_path::{StoreDir, StorePath, StorePathHash};

/// Any store path.
pub fn store_path() -> impl Strategy<Value = StorePath> {
    let name = "[0-9A-Za-z+_?=-][0-9A-Za-z+._?=-]{0,20}|\\.[a-z]|[a-z]{211}";
    (any::<[u8; 20]>(), name).prop_map(|(hash, name)| {
        StorePath::from_base_name(&format!("{}-{name}", StorePathHash::from_bytes(hash))).unwrap()
    })
}

proptest! {
    #[test]
    fn twenty_bytes_are_32_characters(bytes: [u8; 20]) {
        let hash = StorePathHash::from_bytes(bytes);
        let chars = hash.to_chars();
        prop_assert_eq!(StorePathHash::from_chars(&chars), Some(hash));
        prop_assert_eq!(nix_base32::to_nix_base32(&bytes).into_bytes(), chars);
        prop_assert_eq!(hash.to_string().parse(), Ok(hash));
    }

    #[test]
    fn every_32_characters_are_a_hash(chars in "[0-9a-df-np-svw-z]{32}") {
        let hash = StorePathHash::from_chars(chars.as_bytes()).unwrap();
        prop_assert_eq!(hash.to_chars(), chars.as_bytes());
        prop_assert_eq!(nix_base32::from_nix_base32(&chars).unwrap(), hash.as_bytes());
    }

    #[test]
    fn one_other_character_is_no_hash(
        chars in "[0-9a-df-np-svw-z]{32}", at in 0_usize..32, other in any::<u8>(),
    ) {
        let mut bytes = chars.into_bytes();
        bytes[at] = other;
        let known = b"0123456789abcdfghijklmnpqrsvwxyz".contains(&other);
        prop_assert_eq!(StorePathHash::from_chars(&bytes).is_some(), known);
    }

    #[test]
    fn order_is_that_of_the_text(mut paths in prop::collection::vec(store_path(), 0..10)) {
        let mut texts: Vec<_> = paths.iter().map(StorePath::base_name).collect();
        texts.sort();
        paths.sort();
        prop_assert_eq!(paths.iter().map(StorePath::base_name).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn any_path_comes_back(path in store_path(), dir in "(/[a-z.]{3,5}){1,3}") {
        let dir = StoreDir::new(&dir);
        prop_assume!(dir.is_ok());
        let dir = dir.unwrap();
        prop_assert_eq!(StorePath::parse(&dir, &path.full(&dir)), Ok(path.clone()));
        let json = serde_json::to_string(&path).unwrap();
        prop_assert_eq!(serde_json::from_str::<StorePath>(&json).unwrap(), path);
    }

    #[test]
    fn what_is_taken_is_written_the_same(text in "(/nix/store/)?[0-9a-z]{30,33}-?[ -~é]{0,5}") {
        if let Ok(path) = StorePath::from_base_name(&text) {
            prop_assert_eq!(path.base_name(), text.clone());
        }
        if let Ok(path) = StorePath::parse(&StoreDir::default(), &text) {
            prop_assert_eq!(path.full(&StoreDir::default()), text);
        }
    }

    #[test]
    fn any_digest_comes_back(bytes: [u8; 32]) {
        let digest = Sha256::from_bytes(bytes);
        let hex = format!("sha256:{}", digest.to_hex());
        let base64 = digest.to_sri().replacen('-', ":", 1);
        for text in [digest.to_string(), hex, base64, digest.to_sri()] {
            prop_assert_eq!(text.parse(), Ok(digest));
        }
    }

    #[test]
    fn any_text_is_a_digest_or_not(
        text in "(sha256[:-])?([0-9a-z]{51,53}|[0-9A-Fa-f]{64}|[A-Za-z0-9+/=]{44}|\\PC*)",
    ) {
        if let Ok(digest) = text.parse::<Sha256>() {
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        }
    }
}
