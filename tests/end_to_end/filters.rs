//! Filters of `snowbank push`: what they leave out, with all that refers to it, is counted, named
//! with `-v`, and no error.

use std::fs;

use serde_json::Value;
use snowbank_core::receipt::ReceiptLine;
use snowbank_harness::{Client, NixStore, Random, Server, client::Push, oracle::Oracle, trees};

/// The paths that were left out, with the reasons.
fn left_out(push: &Push) -> Vec<(&str, &str)> {
    let lines = push.lines.iter().filter_map(|line| match line {
        ReceiptLine::LeftOut { store_path, reason, .. } => {
            Some((store_path.as_str(), reason.as_str()))
        }
        _ => None,
    });
    lines.collect()
}

/// The path of the closure whose name ends so.
fn ending<'p>(paths: &'p [String], end: &str) -> &'p str {
    paths.iter().find(|path| path.ends_with(end)).unwrap()
}

#[test]
fn a_path_with_an_excluded_name_is_left_out_with_all_that_refers_to_it() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    // 4 and 5 refer to 2; 1 and 3 do not.
    let closure = trees::build_graph(&store, 6, 2, "excluded");
    let two = ending(&closure, "-2");
    let push = client.push_to("main", &closure, &["--exclude", "d-2$", "-v"]).success();
    let out = left_out(&push);
    assert_eq!((push.uploaded(), out.len()), (3, 3), "{}", push.output);
    let said = &push.output.stderr;
    assert!(said.contains("3 uploaded, 0 present, 3 left out by filters"), "{said}");
    for (path, reason) in &out {
        assert!(said.contains(&format!("left out: {path} ({reason})")), "{said}");
        if *path == two {
            assert_eq!(*reason, "its name matches --exclude d-2$");
        } else {
            assert_eq!(*reason, format!("it refers to {two}, which is left out"));
        }
    }
    let oracle = Oracle::main(&server);
    for end in ["-0", "-1", "-3"] {
        assert!(oracle.visible(ending(&closure, end)), "{end}");
    }
    for end in ["-2", "-4", "-5"] {
        assert!(!oracle.visible(ending(&closure, end)), "{end}");
    }

    // What the cache has can be referred to, whatever its name.
    let _ = client.push(&[two]).success();
    let push = client.push_to("main", &closure, &["--exclude", "d-2$"]).success();
    assert_eq!((push.uploaded(), push.present(), left_out(&push).len()), (2, 4, 0));
    oracle.assert_mirrors(&store, &closure);
}

#[test]
fn only_and_sizes_and_several_patterns_go_together() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let mut random = Random::fixed(7);
    let small = trees::add_noise(&store, &mut random, "blog-small", 2_000);
    let large = trees::add_noise(&store, &mut random, "blog-large", 200_000);
    let other = trees::add_noise(&store, &mut random, "host", 2_000);
    let debug = trees::add_noise(&store, &mut random, "host-debug", 2_000);
    let paths = [&small, &large, &other, &debug].map(String::as_str);
    let options =
        ["--only", "^blog-", "--only", "^host", "--exclude", "-debug$", "--max-path-size", "100kB"];
    let push = client.push_to("main", &paths, &[&options[..], &["--json"]].concat()).success();
    let mut out = left_out(&push);
    out.sort_unstable();
    let mut wanted = [large.as_str(), debug.as_str()];
    wanted.sort_unstable();
    assert_eq!(out.iter().map(|(path, _)| *path).collect::<Vec<_>>(), wanted);
    assert!(out.iter().any(|(_, reason)| reason.contains("max-path-size is 100kB")), "{out:?}");
    assert!(!push.output.stderr.contains("left out: "), "named only with -v: {}", push.output);
    let summary: Value = serde_json::from_str(push.output.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(summary["summary"]["left_out"], 2, "{summary}");
    assert_eq!(push.uploaded(), 2, "{}", push.output);

    // A pin needs its path.
    let pinned = client.push_to("main", &[&large], &["--pin", "p", "--max-path-size", "1KiB"]);
    assert_eq!(pinned.output.code(), Some(12), "{}", pinned.output);
    assert!(pinned.output.stderr.contains("`p` was not pinned"), "{}", pinned.output);
}

#[test]
fn the_configuration_has_a_filter_for_each_server() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let file = client.home().join(".config/snowbank/client.toml");
    let logged_in = fs::read_to_string(&file).unwrap();
    let configure = |lines: &str| fs::write(&file, format!("{logged_in}{lines}")).unwrap();
    configure("exclude = [\"^a-\"]\nonly = [\"-wanted$\"]\nmax-path-size = \"1KiB\"\n");
    let mut random = Random::fixed(8);
    let names = ["a-wanted", "b-wanted", "b-other", "c-wanted"];
    let paths = names.map(|name| trees::add_noise(&store, &mut random, name, 3_000));

    let push = client.push_to("main", &paths, &[]).success();
    assert_eq!((push.uploaded(), left_out(&push).len()), (0, 4), "{}", push.output);
    // The command line adds to `exclude` and replaces the rest.
    let options = ["--exclude", "^c-", "--only", "wanted", "--max-path-size", "1MiB"];
    let push = client.push_to("main", &paths, &options).success();
    let reasons: Vec<&str> = left_out(&push).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(push.uploaded(), 1, "{}", push.output);
    for reason in ["its name matches servers.test.exclude ^a-", "its name matches --exclude ^c-"] {
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
    assert!(Oracle::main(&server).visible(&paths[1]));

    configure("only = [\"(\"]\n");
    let push = client.push_to("main", &paths, &[]).ended_with(3);
    for want in ["client.toml", "servers.test.only", "unclosed group", "write a regular"] {
        assert!(push.output.stderr.contains(want), "{want}: {}", push.output);
    }
}

#[test]
fn a_bad_pattern_ends_the_push_before_it_begins() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "bad").remove(0);
    for (options, wants) in [
        (["--exclude", "[a"], ["--exclude: \"[a\"", "unclosed character class"]),
        (["--only", "(a{999}){999}"], ["--only: ", "more than 1.00 MiB"]),
        (["--max-path-size", "2 cups"], ["--max-path-size", "128MiB"]),
    ] {
        let push = client.push_to("main", &[&path], &options).ended_with(2);
        for want in wants {
            assert!(push.output.stderr.contains(want), "{want}: {}", push.output);
        }
    }
    assert!(!Oracle::main(&server).visible(&path));
}
