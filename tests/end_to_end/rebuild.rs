//! A rebuild: the same contents but for the store hashes inside. Masking makes it cost next to
//! nothing.

use std::path::Path;

use snowbank_harness::{Client, NixStore, Server, oracle, oracle::Oracle, trees};

/// A package whose every text file names its dependency, and in part itself; `salt` changes the
/// dependency and nothing else.
fn package(source: &Path, salt: &str) -> String {
    format!(
        r#"
let
  common = {{ system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin"; }};
  dependency = derivation (common // {{
    name = "interpreter";
    args = [ "-ec" "mkdir -p $out/bin; echo {salt} > $out/bin/interpreter" ];
  }});
in derivation (common // {{
  name = "application";
  inherit dependency;
  source = builtins.path {{ path = {source}; name = "source"; }};
  args = [ "-ec" ''
    cp -R $source $out
    chmod -R u+w $out
    find $out -type f \( -name '*.p[lmy]' -o -name '*.h' -o -name '*.txt' -o -name '*.mo' \) -exec \
      sed -i "1i #!$dependency/bin/interpreter" {{}} +
    find $out -type f -name '*.p[lmy]' -size +8k -exec sed -i "\$a # in $out/share" {{}} +
  '' ];
}})
"#,
        source = source.display()
    )
}

#[test]
fn a_rebuild_sends_and_stores_less_than_one_percent() {
    let (server, store) = (Server::start(), NixStore::new());
    let tree = trees::of_this_machine(1, 10 << 20, 60 << 20).remove(0);
    let client = Client::of(&server, &store);

    let first = store.build(&package(&tree, "first"));
    let _ = client.push(&first).success();

    let second = store.build(&package(&tree, "second"));
    assert_ne!(store.hashes(&first), store.hashes(&second), "the rebuild has other bytes");
    let dependency: Vec<String> =
        store.closure(&second).into_iter().filter(|path| *path != second[0]).collect();
    let _ = client.push(&dependency).success();

    let stored_before = server.stored_bytes();
    let push = client.push_to("main", &second, &["--no-closure"]).success();
    let (stats, stored) = (push.stats(), server.stored_bytes() - stored_before);
    let limit = store.sizes(&second)[0] / 100;
    eprintln!("rebuild of {}: {stats:?}, stored {stored} bytes", tree.display());
    assert!(
        stats.bytes_sent < limit && stored < limit,
        "over {limit} bytes: {stats:?}, stored {stored}"
    );

    Oracle::main(&server).assert_mirrors(&store, &[first, second].concat());
    oracle::assert_check_is_clean(&server);
}
