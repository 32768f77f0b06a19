//! A path that the cache has with other contents: reported as different, and the first stays.

use snowbank_core::receipt::ReceiptLine;
use snowbank_harness::{Client, NixStore, Server, oracle::Oracle, trees};

/// The same derivation and so the same store path, whatever its builder makes of the day.
const UNREPRODUCIBLE: &str = r#"derivation {
  name = "unreproducible"; system = builtins.currentSystem;
  builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  args = [ "-ec" "head -c 3000 /dev/urandom > $out" ];
}"#;

#[test]
fn a_path_with_other_contents_is_reported_with_both_hashes_and_the_first_stays() {
    let (server, one, other) = (Server::start(), NixStore::new(), NixStore::new());
    let path = one.build(UNREPRODUCIBLE).remove(0);
    assert_eq!(other.build(UNREPRODUCIBLE), [path.as_str()]);
    let (first, second) = (one.hashes(&[&path]).remove(0), other.hashes(&[&path]).remove(0));
    assert_ne!(first, second);

    let _ = Client::of(&server, &one).push(&[&path]).success();
    let rest = trees::add_tiny(&other, 2, "rest");
    let push = Client::of(&server, &other)
        .push(&[rest.as_slice(), std::slice::from_ref(&path)].concat())
        .ended_with(13);
    for word in [&path, &first, &second] {
        assert!(push.output.stderr.contains(word.as_str()), "{word} is not named: {}", push.output);
    }
    let line = push.lines.iter().find(|line| line.store_path() == path);
    assert!(
        matches!(line, Some(ReceiptLine::Different { nar_hash, cache_nar_hash: Some(cache), .. })
            if nar_hash.to_string() == second && cache.to_string() == first),
        "{line:?}"
    );

    let oracle = Oracle::main(&server);
    oracle.assert_mirrors(&one, &[path]);
    oracle.assert_mirrors(&other, &rest);
}
