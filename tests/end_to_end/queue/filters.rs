//! Filters of `queue run`: a path that is left out leaves the queue.

use std::fs;

use snowbank_harness::{oracle::Oracle, trees};

use super::{Machine, summed};

#[test]
fn a_path_that_is_left_out_leaves_the_queue() {
    let machine = Machine::new();
    let file = machine.client.home().join(".config/snowbank/client.toml");
    let logged_in = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{logged_in}exclude = [\"^secret\"]\n")).unwrap();
    let wanted = trees::add_tiny(&machine.store, 2, "wanted");
    let left_out = [
        trees::add_files(&machine.store, "secret", &[("text", b"a text\n".to_vec())]),
        trees::add_files(&machine.store, "large", &[("text", b"a text\n".repeat(9_000))]),
    ];
    machine.accept(&wanted);
    machine.accept(&left_out);
    let run = machine.queue(&["run", "--once", "--max-path-size", "20KiB", "-v"]).success();
    assert_eq!(summed(&run.stderr, "left"), 2, "{run}");
    for (path, reason) in left_out.iter().zip(["servers.test.exclude ^secret", "max-path-size"]) {
        let line =
            run.stderr.lines().find(|line| line.contains(&format!("left out for main: {path}")));
        assert!(line.is_some_and(|line| line.contains(reason)), "{run}");
        assert!(!Oracle::main(&machine.server).visible(path));
    }
    machine.assert_done(&wanted);
    let bad = machine.queue(&["run", "--once", "--only", "["]).ended_with(2);
    assert!(bad.stderr.contains("--only: \"[\""), "{bad}");
}
