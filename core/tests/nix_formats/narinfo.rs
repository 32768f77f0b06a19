//! narinfos: real Nix's, any that we write, damaged ones.

use proptest::prelude::*;
use snowbank_core::hash::{FileHash, NarHash};
use snowbank_core::narinfo::{NarInfo, NarInfoError, fingerprint, is_content_address};
use snowbank_core::signing::SecretKey;
use snowbank_core::store_path::{StoreDir, StorePath};

use crate::damage::{damaged, damages};
use crate::store_paths::store_path;
use crate::{golden, golden_text};

const GOLDEN: [&str; 5] = [
    "built.none.narinfo",
    "built.xz.narinfo",
    "text-with-references.zstd.narinfo",
    "recursive.zstd.narinfo",
    "flat.none.narinfo",
];

fn parse(text: &str) -> Result<NarInfo, NarInfoError> {
    NarInfo::parse(&StoreDir::default(), text)
}

#[test]
fn narinfos_of_nix_are_read_and_written_the_same() {
    for file in GOLDEN {
        let text = golden_text(file);
        assert_eq!(parse(&text).unwrap().render(&StoreDir::default()), text, "{file}");
    }
}

#[test]
fn fields_are_what_nix_meant() {
    let info = parse(&golden_text("built.xz.narinfo")).unwrap();
    assert_eq!(info.store_path.base_name(), "0123456789abcdfghijklmnpqrsvwxyz-golden-built-1.0");
    assert_eq!(info.compression, "xz");
    assert!(info.url.starts_with("nar/") && info.url.ends_with(".nar.xz"));
    assert_eq!((info.file_size, info.nar_size), (Some(224), 240));
    assert_ne!(info.file_hash.unwrap().as_bytes(), info.nar_hash.as_bytes());
    assert_eq!(info.references.len(), 2);
    assert_eq!(
        info.deriver.unwrap().base_name(),
        "zyxwvsrqpnmlkjihgfdcba9876543210-golden-built-1.0.drv"
    );
    assert_eq!((info.system, info.ca, info.signatures.len()), (None, None, 2));

    let info = parse(&golden_text("recursive.zstd.narinfo")).unwrap();
    assert_eq!(info.ca, Some(format!("fixed:r:{}", info.nar_hash)));
    assert_eq!(info.references, []);
    let nar = golden("tree.nar");
    assert_eq!(
        (info.nar_size, info.nar_hash),
        (nar.len() as u64, snowbank_core::hash::Sha256::of(&nar).into())
    );
}

/// The least that is a narinfo.
const MINIMAL: &str = "StorePath: /nix/store/0123456789abcdfghijklmnpqrsvwxyz-a\n\
    URL: nar/a.nar\n\
    NarHash: sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s\n\
    NarSize: 120\n";

#[test]
fn what_is_missing_has_a_meaning_or_is_named() {
    let info = parse(MINIMAL).unwrap();
    assert_eq!(info.compression, "bzip2");
    assert_eq!((info.file_hash, info.file_size, info.deriver.as_ref()), (None, None, None));
    assert!(info.references.is_empty());
    assert!(info.render(&StoreDir::default()).contains("\nCompression: bzip2\n"));
    for (at, field) in ["StorePath", "URL", "NarHash", "NarSize"].into_iter().enumerate() {
        let without: String = MINIMAL
            .split_inclusive('\n')
            .enumerate()
            .filter(|(line, _)| *line != at)
            .map(|(_, line)| line)
            .collect();
        assert_eq!(parse(&without), Err(NarInfoError::Missing { field }));
    }
}

#[test]
fn ways_to_say_nothing_are_understood() {
    let rest = "Compression: \nReferences:\nDeriver: unknown-deriver\nCA: \nNoSuchField: \
        1\nNoSuchField: 2\nEmpty:\n";
    let mut info = parse(&format!("{MINIMAL}{rest}")).unwrap();
    // What is not known says something to others.
    assert_eq!(info.extra, ["NoSuchField: 1", "NoSuchField: 2", "Empty: "]);
    info.extra.clear();
    assert_eq!(info, parse(MINIMAL).unwrap());
    let references = "1123456789abcdfghijklmnpqrsvwxyz-b 0123456789abcdfghijklmnpqrsvwxyz-a";
    let info = parse(&format!("{MINIMAL}References: {references}  {references}\n")).unwrap();
    assert_eq!(info.references.iter().map(StorePath::name).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn bad_values_are_refused_by_line_and_field() {
    for (field, value) in [
        ("FileHash", "sha256:0"),
        ("FileHash", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ("FileSize", "+1"),
        ("FileSize", "-1"),
        ("FileSize", ""),
        ("FileSize", "1 "),
        ("FileSize", "18446744073709551616"),
        ("References", "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a"),
        ("References", "0123456789abcdfghijklmnpqrsvwxyz-a\t1123456789abcdfghijklmnpqrsvwxyz-b"),
        ("References", "0123456789abcdfghijklmnpqrsvwxyz-a 0123"),
        ("Deriver", "unknown"),
        ("Compression", "x z"),
        ("System", "x86_64-linux\r"),
        ("Sig", "unsigned"),
        ("Sig", ":AAAA"),
        ("CA", "fixed:r"),
    ] {
        match parse(&format!("{MINIMAL}Ignored: x\n{field}: {value}\n")) {
            Err(NarInfoError::BadValue { line: 6, field: named, .. }) if named == field => {}
            other => panic!("{field}: {value}: {other:?}"),
        }
    }
    for (from, to) in [
        ("120", "0"),
        ("/nix/store", "/gnu/store"),
        ("nar/a.nar", "nar a"),
        ("nar/a.nar", ""),
        ("-a", ""),
    ] {
        assert!(
            matches!(parse(&MINIMAL.replacen(from, to, 1)), Err(NarInfoError::BadValue { .. })),
            "{to}"
        );
    }
    let error = parse(&format!("{MINIMAL}FileSize: many\n")).unwrap_err().to_string();
    assert_eq!(error, "narinfo line 5: bad `FileSize`: `many` is not a whole number below 2^64");
}

#[test]
fn single_fields_stand_once() {
    let text = golden_text("built.xz.narinfo") + "System: x86_64-linux\nCA: \n";
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let result = parse(&format!("{text}{line}"));
        match line.split_once(':').unwrap().0 {
            "Sig" => assert_eq!(result.unwrap().signatures.len(), 3),
            name => match result {
                Err(NarInfoError::Duplicate { line: 14, field }) => assert_eq!(field, name),
                other => panic!("line {at}: {other:?}"),
            },
        }
    }
}

#[test]
fn texts_that_are_no_lines_are_refused() {
    assert_eq!(parse(&MINIMAL[..MINIMAL.len() - 1]), Err(NarInfoError::Truncated { line: 4 }));
    assert!(matches!(parse(&format!("{MINIMAL}\n")), Err(NarInfoError::NoColon { line: 5, .. })));
    assert!(matches!(parse("<html>\n"), Err(NarInfoError::NoColon { line: 1, .. })));
    let bytes = [MINIMAL.as_bytes(), b"X: \xff\n"].concat();
    assert_eq!(
        NarInfo::parse_bytes(&StoreDir::default(), &bytes),
        Err(NarInfoError::NotUtf8 { line: 5 })
    );
}

#[test]
fn a_fingerprint_covers_sorted_distinct_references() {
    let path = |text: &str| StorePath::from_base_name(text).unwrap();
    let a = path("0123456789abcdfghijklmnpqrsvwxyz-a");
    let b = path("1123456789abcdfghijklmnpqrsvwxyz-b");
    let hash: NarHash =
        "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s".parse().unwrap();
    let store_dir = StoreDir::default();
    assert_eq!(
        fingerprint(&store_dir, &a, &hash, 120, &[b.clone(), a.clone(), b]),
        "1;/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a;\
         sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s;120;\
         /nix/store/0123456789abcdfghijklmnpqrsvwxyz-a,\
         /nix/store/1123456789abcdfghijklmnpqrsvwxyz-b"
    );
    assert!(fingerprint(&store_dir, &a, &hash, 120, &[]).ends_with(";120;"));
}

#[test]
fn content_addresses_are_those_of_nix() {
    let sha256 = "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
    for text in [
        &format!("text:{sha256}"),
        &format!("fixed:{sha256}"),
        &format!("fixed:r:{sha256}"),
        "fixed:sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "fixed:r:sha1:kpcd173cq987hw957sx6m0868wv3x6d9",
        "fixed:git:sha1:a9993e364706816aba3e25717850c26c9cd0d89d",
        "fixed:md5:900150983cd24fb0d6963f7d28e17f72",
    ] {
        assert!(is_content_address(text), "{text}");
    }
    for text in [
        "",
        "text:",
        "r:sha256",
        sha256,
        "fixed:r:r:sha256:x",
        "fixed:sha3:x",
        "text:sha256:",
        "fixed:r:sha256",
    ] {
        assert!(!is_content_address(text), "{text}");
    }
    assert!(!is_content_address(&format!("fixed:{sha256}\nSig: x")));
    assert!(!is_content_address(&format!("fixed:{}", sha256.replace("1b8", "2b8"))));
}

fn narinfo() -> impl Strategy<Value = NarInfo> {
    let word = "[!-~é]{1,30}";
    let references = prop::collection::btree_set(store_path(), 0..5);
    let signature =
        ("[a-z.-]{1,20}", any::<[u8; 32]>(), any::<[u8; 8]>()).prop_map(|(name, seed, message)| {
            SecretKey::from_seed(&name, seed).unwrap().sign(&message)
        });
    let ca = any::<[u8; 32]>().prop_map(|hash| format!("fixed:r:{}", NarHash::from_bytes(hash)));
    let file = (proptest::option::of(any::<[u8; 32]>()), proptest::option::of(any::<u64>()));
    let sizes = (any::<[u8; 32]>(), 1..=u64::MAX);
    let extra = prop::collection::vec("X-[a-z]{1,8}: [!-~é ]{0,30}", 0..3);
    let maybe = (
        proptest::option::of(store_path()),
        proptest::option::of(word),
        proptest::option::of(ca),
        extra,
    );
    let signatures = prop::collection::vec(signature, 0..3);
    (store_path(), word, word, file, sizes, references, maybe, signatures).prop_map(
        |(store_path, url, compression, file, sizes, references, maybe, signatures)| NarInfo {
            store_path,
            url,
            compression,
            file_hash: file.0.map(FileHash::from_bytes),
            file_size: file.1,
            nar_hash: NarHash::from_bytes(sizes.0),
            nar_size: sizes.1,
            references: references.into_iter().collect(),
            deriver: maybe.0,
            system: maybe.1,
            signatures,
            ca: maybe.2,
            extra: maybe.3,
        },
    )
}

/// What must hold for all bytes: no panic, and what is taken is read back from what is written for
/// it.
fn check_any(bytes: &[u8]) -> Result<(), TestCaseError> {
    let store_dir = StoreDir::default();
    if let Ok(info) = NarInfo::parse_bytes(&store_dir, bytes) {
        prop_assert_eq!(parse(&info.render(&store_dir)), Ok(info));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_narinfo_comes_back(info in narinfo()) {
        for store_dir in [StoreDir::default(), StoreDir::new("/gnu/store").unwrap()] {
            prop_assert_eq!(NarInfo::parse(&store_dir, &info.render(&store_dir)), Ok(info.clone()));
        }
    }

    #[test]
    fn damaged_narinfos_do_no_harm(info in narinfo(), damages in damages()) {
        check_any(&damaged(info.render(&StoreDir::default()).into_bytes(), &damages))?;
    }

    #[test]
    fn any_text_is_a_narinfo_or_not(text in "((StorePath|URL|References|NarSize|Sig|CA|X):? \
        ?\\PC{0,9}\n?){0,9}") {
        check_any(text.as_bytes())?;
    }
}
