//! `[gc]`, and `[storage] min-free`.

use super::*;

#[test]
fn nothing_is_taken_away_by_default_but_what_nothing_needs() {
    let config = load("").1.unwrap();
    let gc = config.gc;
    assert_eq!((gc.interval, gc.grace), (Some(Seconds::new(6 * 3_600)), Seconds::new(86_400)));
    assert_eq!((gc.retention, gc.max_size), (None, None));
    assert_eq!(gc.compact_budget, Size::from_bytes(4 << 30));
    assert_eq!(config.min_free, None);
}

#[test]
fn times_and_sizes_can_be_switched_off_by_a_word() {
    let text = "[gc]\ninterval = \"never\"\nretention = \"90d\"\nmax-size = \
        \"200GB\"\ncompact-budget = \"0B\"\n";
    let gc = load(text).1.unwrap().gc;
    assert_eq!((gc.interval, gc.retention), (None, Some(Seconds::new(90 * 86_400))));
    assert_eq!(gc.max_size, Some(Size::from_bytes(200_000_000_000)));
    assert!(gc.compact_budget.is_empty());
    let gc = load("[gc]\nretention = \"never\"\nmax-size = \"none\"\n").1.unwrap().gc;
    assert_eq!((gc.retention, gc.max_size), (None, None));
}

#[test]
fn what_is_wrong_in_gc_is_named_with_its_line_and_what_is_allowed() {
    for (line, parts) in [
        ("interval = \"1s\"", &["`gc.interval`", "1m to 365d", "never"][..]),
        ("interval = \"weekly\"", &["`gc.interval`", "`weekly`", "or \"never\""]),
        ("interval = 6", &["`gc.interval`"]),
        ("grace = \"400d\"", &["`gc.grace`", "0s to 365d"]),
        ("retention = \"0s\"", &["`gc.retention`", "never"]),
        ("retention = \"default\"", &["`gc.retention`", "never"]),
        ("max-size = \"0B\"", &["`gc.max-size`", "16MiB", "none"]),
        ("max-size = \"all\"", &["`gc.max-size`", "`all`", "or \"none\""]),
        ("min-age = \"never\"", &["`gc.min-age`", "`never`"]),
        ("compact-budget = \"1MiB\"", &["`gc.compact-budget`", "0B (none)", "16MiB"]),
        ("compact-rate = \"0B\"", &["`gc.compact-rate`", "1MiB"]),
        ("intervall = \"6h\"", &["unknown key `intervall`", "`interval`", "`compact-rate`"]),
    ] {
        assert_names(&format!("[gc]\n{line}\n"), &[&[":2: "], parts].concat());
    }
}

#[test]
fn room_is_kept_free_where_there_is_a_disk_of_ours() {
    let (_folder, config) = load("[storage]\nmin-free = \"5GB\"\n");
    assert_eq!(config.unwrap().min_free, Some(Size::from_bytes(5_000_000_000)));
    let bucket =
        "[storage]\ntype = \"s3\"\nbucket = \"b\"\nendpoint = \"http://h\"\nmin-free = \"0B\"\n";
    assert_eq!(load(bucket).1.unwrap().min_free, Some(Size::from_bytes(0)), "SQLite has a disk");
    let far = format!("{bucket}[database]\nurl = \"postgres://h/d\"\n");
    assert_names(&far, &[":5: ", "`storage.min-free`", "leave it out"]);
}
