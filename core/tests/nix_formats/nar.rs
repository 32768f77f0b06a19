//! NARs: real Nix's, our own, and damaged ones.

use proptest::prelude::*;
use snowbank_core::hash::{NarHash, Sha256};
use snowbank_core::nar::decode::{NarError, NarErrorKind, Validator};

use crate::damage::{damaged, damages};
use crate::tree::{Node, decode, node};
use crate::{golden, golden_text};

/// The trees that `make.sh` dumps, by the names of their files.
fn golden_trees() -> [(&'static str, Node); 6] {
    let deep = (1..=40)
        .rev()
        .fold(Node::directory([(b"file", Node::file("bottom"))]), |below, level: i32| {
            Node::directory([(level.to_string().as_bytes(), below)])
        });
    let tree = Node::directory([
        (b"a", Node::file("hello, world")),
        (
            b"a.b",
            Node::directory([
                (b"run", Node::executable("#!/bin/sh\nexit 0\n")),
                (b"empty-executable", Node::executable("")),
            ]),
        ),
        (b"a-b", Node::directory([(b"empty", Node::file(""))])),
        (b"empty-directory", Node::directory([])),
        (b"ab", Node::file("12345678")),
        (b"Z", Node::file("upper")),
        ("é".as_bytes(), Node::file("name in UTF-8")),
        (b"\xff\xfe", Node::file("name not in UTF-8")),
        (b"new\nline and space", Node::file("names may hold this")),
        (b".hidden", Node::file("dot")),
        (b"...", Node::file("three")),
        (&[b'n'; 255], Node::file("longest")),
        (b"link", Node::symlink(b"../outside/dangling")),
        (b"link to a directory", Node::symlink(b"a.b")),
        (b"link\xff", Node::symlink(b"\xff")),
        (b"deep", deep),
    ]);
    [
        ("tree", tree),
        ("regular", Node::file("seven b")),
        ("executable", Node::executable("eight by")),
        ("empty", Node::file("")),
        ("empty-directory", Node::directory([])),
        ("symlink", Node::symlink(b"target")),
    ]
}

#[test]
fn our_nars_are_those_of_nix() {
    for (name, tree) in golden_trees() {
        let nar = golden(&format!("{name}.nar"));
        assert!(tree.to_nar() == nar, "{name}");
        assert_eq!(tree.nar_len(), nar.len() as u64, "{name}");
        assert_eq!(Node::from_nar(&nar), Ok(tree), "{name}");
    }
}

#[test]
fn our_hashes_are_those_of_nix() {
    for line in golden_text("nar-hashes.txt").lines() {
        let (name, rest) = line.split_once(' ').unwrap();
        let (base, text) = rest.split_once(' ').unwrap();
        let hash = Sha256::of(&golden(&format!("{name}.nar")));
        let ours = match base {
            "base16" => hash.to_hex(),
            "base32" => hash.to_nix32(),
            "base64" => hash.to_sri().replace("sha256-", ""),
            _ => hash.to_sri(),
        };
        assert_eq!(ours, text, "{line}");
        let prefix = if base == "sri" { "" } else { "sha256:" };
        assert_eq!(format!("{prefix}{text}").parse(), Ok(NarHash::from(hash)), "{line}");
    }
}

#[test]
fn every_single_cut_and_every_byte_alone_read_the_same() {
    let nar = golden("tree.nar");
    let whole = decode([nar.as_slice()]);
    assert_eq!(whole.1, Ok(()));
    assert_eq!(decode(nar.chunks(1)), whole);
    for at in 0..=nar.len() {
        let (before, after) = nar.split_at(at);
        assert_eq!(decode([before, after]), whole, "cut at {at}");
        let expected = NarError { offset: at as u64, kind: NarErrorKind::Truncated };
        if at < nar.len() {
            assert_eq!(decode([before]).1, Err(expected), "ends at {at}");
        }
    }
}

#[test]
fn every_changed_byte_is_refused_or_is_another_tree() {
    let nar = golden("tree.nar");
    for at in 0..nar.len() {
        let mut changed = nar.clone();
        changed[at] ^= 1;
        if let Ok(tree) = Node::from_nar(&changed) {
            assert!(tree.to_nar() == changed, "byte {at}");
        }
    }
}

/// A NAR from its tokens, as the grammar says, whatever they are.
fn nar(tokens: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for token in [&[b"nix-archive-1" as &[u8]], tokens].concat() {
        out.extend_from_slice(&(token.len() as u64).to_le_bytes());
        out.extend_from_slice(token);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

fn refusal(bytes: &[u8]) -> NarErrorKind {
    let whole = decode([bytes]);
    assert_eq!(decode(bytes.chunks(1)), whole);
    whole.1.expect_err("it is not a NAR").kind
}

const FILE: [&[u8]; 6] = [b"(", b"type", b"regular", b"contents", b"x", b")"];

/// A directory with an empty file of each of these names.
fn directory(names: &[&[u8]]) -> Vec<u8> {
    let mut tokens: Vec<&[u8]> = vec![b"(", b"type", b"directory"];
    for name in names {
        tokens.extend([b"entry", b"(" as &[u8], b"name", name, b"node"]);
        tokens.extend(FILE);
        tokens.push(b")");
    }
    tokens.push(b")");
    nar(&tokens)
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in [b"" as &[u8], b".", b"..", b"/", b"a/b", b"../a", b"a\0b", b"\0"] {
        assert!(matches!(refusal(&directory(&[name])), NarErrorKind::BadName(_)), "{name:?}");
    }
    assert_eq!(refusal(&directory(&[&[b'x'; 256]])), NarErrorKind::NameTooLong(256));
    for name in [b"..." as &[u8], b".a", b"\n", b"\xff", &[b'x'; 255]] {
        assert_eq!(decode([directory(&[name]).as_slice()]).1, Ok(()), "{name:?}");
    }
}

#[test]
fn names_out_of_order_are_refused() {
    for names in [[b"b" as &[u8], b"a"], [b"a", b"a"], [b"ab", b"a"], [b"a", b"B"], [b"\xff", b"a"]]
    {
        assert!(matches!(refusal(&directory(&names)), NarErrorKind::Unsorted(_)), "{names:?}");
    }
    assert_eq!(
        decode([directory(&[b"B", b"a", b"a-", b"a.", b"ab", b"\xff"]).as_slice()]).1,
        Ok(())
    );
}

#[test]
fn order_is_kept_across_nested_directories() {
    let nested = |last: &[u8]| {
        let mut tokens: Vec<&[u8]> = vec![b"(", b"type", b"directory"];
        tokens.extend([
            b"entry" as &[u8],
            b"(",
            b"name",
            b"m",
            b"node",
            b"(",
            b"type",
            b"directory",
        ]);
        tokens.extend([b"entry" as &[u8], b"(", b"name", b"z", b"node"]);
        tokens.extend(FILE);
        tokens.extend([b")" as &[u8], b")", b")", b"entry", b"(", b"name", last, b"node"]);
        tokens.extend(FILE);
        tokens.extend([b")" as &[u8], b")"]);
        nar(&tokens)
    };
    assert_eq!(decode([nested(b"n").as_slice()]).1, Ok(()));
    assert!(matches!(refusal(&nested(b"m")), NarErrorKind::Unsorted(_)));
    assert!(matches!(refusal(&nested(b"a")), NarErrorKind::Unsorted(_)));
}

#[test]
fn symlinks_need_a_target() {
    let link = |target: &[u8]| nar(&[b"(", b"type", b"symlink", b"target", target, b")"]);
    assert_eq!(refusal(&link(b"")), NarErrorKind::BadTarget);
    assert_eq!(refusal(&link(b"a\0")), NarErrorKind::BadTarget);
    assert_eq!(refusal(&link(&[b'x'; 4_096])), NarErrorKind::TargetTooLong(4_096));
    assert_eq!(decode([link(&[b'x'; 4_095]).as_slice()]).1, Ok(()));
}

#[test]
fn what_nix_would_not_write_is_refused() {
    let mut large_file = nar(&[b"(", b"type", b"regular", b"contents"]);
    large_file.extend_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(refusal(&large_file), NarErrorKind::FileTooLarge(u64::MAX));
    assert_eq!(refusal(&[nar(&FILE), vec![0]].concat()), NarErrorKind::TrailingBytes);
    assert_eq!(refusal(b""), NarErrorKind::Truncated);
    assert_eq!(refusal(&u64::MAX.to_le_bytes()), refusal(b"\x0e\0\0\0\0\0\0\0nix-archive-10\0\0"));
    for tokens in [
        &[b"[" as &[u8]] as &[&[u8]],
        &[b"(", b"kind"],
        &[b"(", b"type", b"fifo"],
        &[b"(", b"type", b"regular", b")"],
        &[b"(", b"type", b"regular", b"executable", b"1", b"contents", b"", b")"],
        &[b"(", b"type", b"regular", b"executable", b"", b")"],
        &[b"(", b"type", b"regular", b"contents", b"", b"executable", b"", b")"],
        &[b"(", b"type", b"symlink", b")"],
        &[b"(", b"type", b"directory", b"entry", b"(", b"node"],
        &[b"(", b"type", b"directory", b"entry", b"(", b"name", b"a", b")"],
    ] {
        assert!(matches!(refusal(&nar(tokens)), NarErrorKind::Expected(_)), "{tokens:?}");
    }
}

#[test]
fn padding_must_be_zero() {
    let file = nar(&FILE);
    assert_eq!((file.len(), file[96], file[112]), (120, b'x', b')'));
    // Contents' padding is judged byte by byte, a token's as a whole, at its beginning.
    for (at, offset) in [(8 + 13, 0), (97, 97), (103, 103), (113, 104), (119, 104)] {
        let mut bytes = file.clone();
        bytes[at] = 1;
        let error = NarError { offset, kind: NarErrorKind::BadPadding };
        assert_eq!(decode([bytes.as_slice()]).1, Err(error.clone()), "byte {at}");
        assert_eq!(decode(bytes.chunks(1)).1, Err(error), "byte {at} by bytes");
    }
}

#[test]
fn directories_inside_each_other_end_somewhere() {
    let deep = |depth: usize| {
        let mut tokens: Vec<&[u8]> = Vec::new();
        for _ in 1..depth {
            tokens.extend([
                b"(" as &[u8],
                b"type",
                b"directory",
                b"entry",
                b"(",
                b"name",
                b"d",
                b"node",
            ]);
        }
        tokens.extend([b"(" as &[u8], b"type", b"directory", b")"]);
        for _ in 1..depth {
            tokens.extend([b")" as &[u8], b")"]);
        }
        nar(&tokens)
    };
    assert_eq!(decode([deep(2_048).as_slice()]).1, Ok(()));
    assert_eq!(refusal(&deep(2_049)), NarErrorKind::TooDeep);
}

#[test]
fn an_error_tells_where_and_what() {
    let error = decode([directory(&[b"b", b"a"]).as_slice()]).1.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid NAR at byte 320: `a` is out of order in its directory, or stands there twice"
    );
}

/// `bytes` in pieces that end at these places.
fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, &end)| &bytes[start..end]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

/// Any tokens of the grammar in any order, so that damage reaches every state.
fn token_soup() -> impl Strategy<Value = Vec<u8>> {
    const TOKENS: [&[u8]; 14] = [
        b"(",
        b")",
        b"type",
        b"regular",
        b"executable",
        b"",
        b"contents",
        b"symlink",
        b"target",
        b"directory",
        b"entry",
        b"name",
        b"node",
        b"a",
    ];
    prop::collection::vec(prop::sample::select(&TOKENS[..]), 0..20).prop_map(|tokens| nar(&tokens))
}

/// What must hold for all bytes: no panic, the same however they are cut, the validator agrees, and
/// what is taken is what the encoder writes for the same tree.
fn check_any(bytes: &[u8], cuts: &[prop::sample::Index]) -> Result<(), TestCaseError> {
    let whole = decode([bytes]);
    prop_assert_eq!(&decode(pieces(bytes, cuts)), &whole);
    let mut validator = Validator::new();
    let fed = pieces(bytes, cuts).into_iter().try_for_each(|piece| validator.feed(piece));
    prop_assert_eq!(fed.and_then(|()| validator.finish()), whole.1.clone());
    if whole.1.is_ok() {
        prop_assert!(Node::from_nar(bytes).is_ok_and(|tree| tree.to_nar() == bytes));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_tree_comes_back(tree in node(), cuts in cuts()) {
        let nar = tree.to_nar();
        prop_assert_eq!(nar.len() as u64, tree.nar_len());
        check_any(&nar, &cuts)?;
        prop_assert_eq!(Node::from_nar(&nar), Ok(tree));
    }

    #[test]
    fn any_bytes_are_judged_the_same_however_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..100), cuts in cuts(),
    ) {
        check_any(&bytes, &cuts)?;
    }

    #[test]
    fn any_tokens_are_judged_the_same_however_cut(bytes in token_soup(), cuts in cuts()) {
        check_any(&bytes, &cuts)?;
    }

    #[test]
    fn any_damaged_nar_is_judged_the_same_however_cut(
        tree in node(),
        damages in damages(),
        cuts in cuts(),
    ) {
        check_any(&damaged(tree.to_nar(), &damages), &cuts)?;
    }
}
