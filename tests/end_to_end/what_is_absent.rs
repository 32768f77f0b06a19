//! An answer that something is not there says what: a cache, a path, a pin or a token. A name that
//! is taken is neither.

use snowbank_harness::{Client, NixStore, Server, trees};

const ABSENT: &str = "/nix/store/00000000000000000000000000000000-absent";

#[test]
fn what_is_not_there_is_named_and_has_its_code() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "there").remove(0);
    let _ = client.push_to("main", &[&path], &["--pin", "latest"]).success();
    let _ = client.run(&["cache", "create", "other"]).success();

    let in_a_cache: [(&[&str], &str); 9] = [
        (&["pin", "rm", "main", "newest"], "no pin `newest`"),
        (&["pin", "show", "main", "newest"], "no pin `newest`"),
        (&["pin", "rollback", "main", "newest"], "no pin `newest`"),
        (&["pin", "rollback", "main", "latest", "--to", "7"], "the pin `latest`"),
        (&["pin", "main", "newest", ABSENT], "no path"),
        (&["path", "info", "main", ABSENT], "no path"),
        (&["delete", "main", ABSENT, "--yes"], "no path"),
        (&["cache", "copy", "main", "other", ABSENT], "no path"),
        (&["token", "show", "4f2a"], "no token"),
    ];
    for (args, says) in in_a_cache {
        let output = client.run(args).ended_with(15);
        assert!(
            output.stderr.contains(says) && !output.stderr.contains("has no cache"),
            "{args:?}: {output}"
        );
    }
    let no_cache: [&[&str]; 7] = [
        &["pin", "rm", "mian", "latest"],
        &["path", "info", "mian", ABSENT],
        &["path", "list", "mian"],
        &["delete", "mian", ABSENT, "--yes"],
        &["cache", "info", "mian"],
        &["cache", "copy", "mian", "other", &path],
        &["cache", "copy", "main", "mian", &path],
    ];
    for args in no_cache {
        let output = client.run(args).ended_with(11);
        assert!(output.stderr.contains("no cache `mian`"), "{args:?}: {output}");
    }
    let taken: [&[&str]; 2] = [&["cache", "create", "main"], &["cache", "rename", "other", "main"]];
    for args in taken {
        let output = client.run(args).ended_with(16);
        assert!(output.stderr.contains("there is a cache `main` already"), "{args:?}: {output}");
    }
}
