//! The matrix: kind of damage × place.

use std::fs;

use snowbank_harness::{craft::Deposit, database, oracle};

use super::stage::{Fetched, Stage, change, hash_part};

/// What comes of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// `repair` makes it whole, and nobody has to push anything.
    Healed,
    /// Out of sight; so many chunks travel when it is pushed again.
    Withdrawn(Missing),
    /// The same as if it had been deleted, which nothing can tell.
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    None,
    One,
    AllButFirst,
    All,
}

struct Case {
    what: &'static str,
    /// Damages the first; the second is there for what takes two.
    hurt: fn(&Stage, &Deposit, &Deposit),
    /// What `check` has to be asked to find it.
    asked: &'static [&'static str],
    /// What it says then, beside the name of the pack, the chunk or the path.
    says: &'static str,
    comes: Comes,
    /// What comes of it when somebody fetches the path before anything is repaired; `None` where
    /// serving does not meet it.
    met: Option<Missing>,
}

const DATA: &[&str] = &["--read-data"];
const ROWS: &[&str] = &[];
const CONTENT: &[&str] = &["--paths", "*"];

const CASES: &[Case] = &[
    Case {
        what: "frame, a byte flipped",
        hurt: |stage, path, _| {
            let chunk = stage.chunks(path)[1].clone();
            let middle = usize::try_from(chunk.offset + chunk.len / 2).unwrap();
            change(&stage.file(path), |bytes| bytes[middle] ^= 1);
        },
        asked: DATA,
        says: "checksum differs",
        comes: Comes::Withdrawn(Missing::One),
        met: Some(Missing::One),
    },
    Case {
        what: "frame, truncated",
        hurt: |stage, path, _| {
            let chunk = stage.chunks(path)[1].clone();
            let middle = usize::try_from(chunk.offset + chunk.len / 2).unwrap();
            change(&stage.file(path), |bytes| bytes.truncate(middle));
        },
        asked: ROWS,
        says: "bytes where its row says",
        comes: Comes::Withdrawn(Missing::AllButFirst),
        met: Some(Missing::AllButFirst),
    },
    Case {
        what: "object, deleted",
        hurt: |stage, path, _| fs::remove_file(stage.file(path)).unwrap(),
        asked: ROWS,
        says: "an object that is not there",
        comes: Comes::Withdrawn(Missing::All),
        met: Some(Missing::All),
    },
    Case {
        what: "object, swapped with another pack's",
        hurt: |stage, path, other| {
            let (one, two) = (stage.file(path), stage.file(other));
            let bytes = [fs::read(&one).unwrap(), fs::read(&two).unwrap()];
            fs::write(one, &bytes[1]).unwrap();
            fs::write(two, &bytes[0]).unwrap();
        },
        asked: DATA,
        says: "it says that it is the pack",
        comes: Comes::Withdrawn(Missing::All),
        met: Some(Missing::All),
    },
    Case {
        what: "object, grown",
        hurt: |stage, path, _| change(&stage.file(path), |bytes| bytes.extend_from_slice(b"more")),
        asked: ROWS,
        says: "bytes where its row says",
        comes: Comes::Healed,
        met: None,
    },
    Case {
        what: "head, a byte flipped",
        hurt: |stage, path, _| change(&stage.file(path), |bytes| bytes[20] ^= 1),
        asked: DATA,
        says: "table is damaged",
        comes: Comes::Healed,
        met: None,
    },
    Case {
        what: "table, a byte flipped",
        hurt: |stage, path, _| {
            let last = stage.chunks(path).pop().unwrap();
            let table = usize::try_from(last.offset + last.len).unwrap();
            change(&stage.file(path), |bytes| bytes[table + 30] ^= 1);
        },
        asked: DATA,
        says: "table is damaged",
        comes: Comes::Healed,
        met: None,
    },
    Case {
        what: "footer, a byte flipped",
        hurt: |stage, path, _| change(&stage.file(path), |bytes| *bytes.last_mut().unwrap() ^= 1),
        asked: DATA,
        says: "magic",
        comes: Comes::Healed,
        met: None,
    },
    Case {
        what: "footer, truncated",
        hurt: |stage, path, _| change(&stage.file(path), |bytes| bytes.truncate(bytes.len() - 10)),
        asked: ROWS,
        says: "bytes where its row says",
        comes: Comes::Healed,
        met: None,
    },
    Case {
        what: "chunk row, deleted",
        hurt: |stage, path, _| {
            let id = stage.chunks(path)[1].id;
            stage.edit(&format!("DELETE FROM chunks WHERE id = {id}"), None);
        },
        asked: ROWS,
        says: "of its manifest has no row",
        comes: Comes::Healed,
        met: Some(Missing::One),
    },
    Case {
        what: "chunk row, another name",
        hurt: |stage, path, _| {
            let id = stage.chunks(path)[1].id;
            stage.edit(&format!("UPDATE chunks SET name = $1 WHERE id = {id}"), Some(&[7; 32]));
        },
        asked: ROWS,
        says: "not those that were verified",
        comes: Comes::Healed,
        met: Some(Missing::None),
    },
    Case {
        what: "chunk row, another place",
        hurt: |stage, path, _| {
            let id = stage.chunks(path)[1].id;
            stage.edit(
                &format!("UPDATE chunks SET pack_offset = pack_offset + 1 WHERE id = {id}"),
                None,
            );
        },
        asked: DATA,
        says: "chunk",
        comes: Comes::Healed,
        met: Some(Missing::None),
    },
    Case {
        what: "chunk rows, swapped",
        hurt: |stage, path, _| {
            let (one, two) = (stage.chunks(path)[0].clone(), stage.chunks(path)[1].clone());
            for (chunk, place) in [(&one, &two), (&two, &one)] {
                stage.edit(
                    &format!(
                        "UPDATE chunks SET pack_offset = {}, record_len = {} WHERE id = {}",
                        place.offset, place.len, chunk.id
                    ),
                    None,
                );
            }
        },
        asked: DATA,
        says: "lies there",
        comes: Comes::Healed,
        met: Some(Missing::None),
    },
    Case {
        what: "pack row, deleted",
        hurt: |stage, path, _| {
            let id = stage.chunks(path)[1].id;
            stage.edit(
                &format!(
                    "DELETE FROM packs WHERE id = (SELECT pack_id FROM chunks WHERE id = {id})"
                ),
                None,
            );
        },
        asked: ROWS,
        says: "has no row",
        comes: Comes::Healed,
        met: Some(Missing::None),
    },
    Case {
        what: "NAR row, another hash",
        hurt: |stage, path, _| {
            let nar = nar_of(path);
            stage.edit(&format!("UPDATE nars SET nar_hash = $1 WHERE id = {nar}"), Some(&[9; 32]));
        },
        asked: CONTENT,
        says: "where its row says",
        comes: Comes::Withdrawn(Missing::None),
        met: None,
    },
    Case {
        what: "NAR row, another size",
        hurt: |stage, path, _| {
            let nar = nar_of(path);
            stage.edit(&format!("UPDATE nars SET nar_size = nar_size + 1 WHERE id = {nar}"), None);
        },
        asked: ROWS,
        says: "adds up to",
        comes: Comes::Withdrawn(Missing::None),
        met: None,
    },
    Case {
        what: "NAR row, deleted",
        hurt: |stage, path, _| {
            let nar = nar_of(path);
            stage.edit(&format!("DELETE FROM nars WHERE id = {nar}"), None);
        },
        asked: ROWS,
        says: "has no row",
        comes: Comes::Withdrawn(Missing::None),
        met: None,
    },
    Case {
        what: "manifest, a byte flipped",
        hurt: |stage, path, _| {
            let nar = nar_of(path);
            let mut manifest = database::blob(
                &stage.server,
                &format!("SELECT manifest FROM nars WHERE id = {nar}"),
            );
            let middle = manifest.len() / 2;
            manifest[middle] ^= 1;
            stage.edit(&format!("UPDATE nars SET manifest = $1 WHERE id = {nar}"), Some(&manifest));
        },
        asked: ROWS,
        says: "manifest",
        comes: Comes::Withdrawn(Missing::None),
        met: Some(Missing::None),
    },
    Case {
        what: "manifest, truncated",
        hurt: |stage, path, _| {
            let nar = nar_of(path);
            let mut manifest = database::blob(
                &stage.server,
                &format!("SELECT manifest FROM nars WHERE id = {nar}"),
            );
            manifest.pop();
            stage.edit(&format!("UPDATE nars SET manifest = $1 WHERE id = {nar}"), Some(&manifest));
        },
        asked: ROWS,
        says: "cut off",
        comes: Comes::Withdrawn(Missing::None),
        met: Some(Missing::None),
    },
    Case {
        what: "path row, references that are none",
        hurt: |stage, path, _| {
            stage.edit(
                &format!("UPDATE paths SET refs = 'nonsense' WHERE hash = '{}'", hash_part(path)),
                None,
            );
        },
        asked: ROWS,
        says: "paths.refs",
        comes: Comes::Withdrawn(Missing::None),
        met: None,
    },
    Case {
        what: "path row, deleted",
        hurt: |stage, path, _| {
            stage.edit(&format!("DELETE FROM paths WHERE hash = '{}'", hash_part(path)), None);
        },
        asked: ROWS,
        says: "",
        comes: Comes::Deleted,
        met: None,
    },
];

/// A query for the id of a path's NAR.
fn nar_of(path: &Deposit) -> String {
    format!("(SELECT nar_id FROM paths WHERE hash = '{}')", hash_part(path))
}

impl Missing {
    fn of(self, path: &Deposit) -> usize {
        match self {
            Self::None => 0,
            Self::One => 1,
            Self::AllButFirst => path.encoded.len() - 1,
            Self::All => path.encoded.len(),
        }
    }
}

/// Deposits for every case, and a server that has none of their packs in memory.
fn prepared(seed: u64) -> (Stage, Vec<[Deposit; 2]>, Deposit) {
    let mut stage = Stage::new(seed);
    let mut name = |what, number| stage.deposit(&format!("{what}-{number}"));
    let paths =
        (0..CASES.len()).map(|number| [name("damaged", number), name("other", number)]).collect();
    let bystander = stage.deposit("bystander");
    stage.server.restart_without_packs();
    stage.api = snowbank_harness::Api::root(&stage.server);
    (stage, paths, bystander)
}

/// Asserts that `check` finds the damage and says where it is.
#[track_caller]
fn assert_found(stage: &Stage, case: &Case, path: &Deposit, object: &str) {
    let output = stage.check(case.asked);
    if case.comes == Comes::Deleted {
        assert!(output.status.success(), "{}: {output}", case.what);
        return;
    }
    assert_eq!(output.code(), Some(1), "{}: {output}", case.what);
    assert!(output.stdout.contains(case.says), "{}: {output}", case.what);
    let hash = hash_part(path);
    assert!(
        output.stdout.contains(object) || output.stdout.contains(hash),
        "{}: where it is: {output}",
        case.what
    );
    let advised = advised(&output.stdout);
    if stage.server.shared().is_some() {
        // What it finds is the same on every storage, and takes long here.
        return;
    }
    let plan =
        stage.server.command(&advised.iter().map(String::as_str).collect::<Vec<_>>()).success();
    assert!(
        !plan.stdout.contains("nothing to repair"),
        "{}: {advised:?} finds it too: {plan}",
        case.what
    );
}

/// The arguments of the command that `check` says to run.
fn advised(said: &str) -> Vec<String> {
    let line = said
        .lines()
        .find(|line| line.starts_with("`snowbankd repair"))
        .unwrap_or_else(|| panic!("{said}"));
    let command = line.split('`').nth(1).unwrap();
    command.split(' ').skip(1).map(|word| word.trim_matches('\'').to_owned()).collect()
}

/// Asserts that all is whole, and that nothing is known of damage any more.
#[track_caller]
fn assert_well(stage: &Stage, case: &Case, own: &str, paths: &[&Deposit]) {
    for path in paths {
        assert_eq!(stage.fetch(path), Fetched::Whole, "{}", case.what);
    }
    let output = stage.check(&["--read-data", "--paths", own]);
    assert!(output.status.success(), "{}: {output}", case.what);
}

#[test]
fn damage_is_found_named_and_repaired_or_withdrawn() {
    let (stage, paths, bystander) = prepared(601);
    oracle::assert_check_is_clean(&stage.server);
    for (number, (case, [path, other])) in CASES.iter().zip(&paths).enumerate() {
        eprintln!("{}", case.what);
        // The NARs of the others were decoded before, and are not again each time.
        let own = &format!("*-{number}");
        let object = stage.chunks(path)[0].object.clone();
        (case.hurt)(&stage, path, other);
        assert_found(&stage, case, path, &object);

        let plan =
            stage.server.command(&["repair", "--dry-run", "--read-data", "--paths", own]).success();
        let named = plan.stdout.contains(&path.store_path["/nix/store/".len()..]);
        assert_eq!(
            named,
            matches!(case.comes, Comes::Withdrawn(_)),
            "{}: the plan lists the path: {plan}",
            case.what
        );
        if case.comes != Comes::Deleted {
            assert_eq!(
                stage.check(case.asked).code(),
                Some(1),
                "{}: a dry run changes nothing",
                case.what
            );
        }
        let done = stage.repair(own);
        let travelled = match case.comes {
            Comes::Healed => {
                assert_eq!(stage.fetch(path), Fetched::Whole, "{}: {done}", case.what);
                0
            }
            Comes::Withdrawn(missing) => {
                assert_eq!(stage.fetch(path), Fetched::Absent, "{}: {done}", case.what);
                missing.of(path)
            }
            Comes::Deleted => {
                assert_eq!(stage.fetch(path), Fetched::Absent, "{}", case.what);
                0
            }
        };
        let again =
            stage.server.command(&["repair", "--dry-run", "--read-data", "--paths", own]).success();
        assert!(again.stdout.contains("nothing to repair"), "{}: {again}", case.what);
        if stage.fetch(path) == Fetched::Absent {
            let output = stage.check(&["--read-data", "--paths", own]);
            let withdrawn = matches!(case.comes, Comes::Withdrawn(_));
            assert_eq!(output.status.success(), !withdrawn, "{}: {output}", case.what);
            let only = output
                .stdout
                .lines()
                .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
                .count();
            assert_eq!(only, 0, "{}: what is left is withdrawn: {output}", case.what);
            assert_eq!(stage.push_again(path), travelled, "{}", case.what);
        }
        if stage.fetch(other) == Fetched::Absent {
            assert_eq!(stage.push_again(other), other.encoded.len(), "{}", case.what);
        }
        assert_well(&stage, case, own, &[path, other, &bystander]);
    }
}

#[test]
fn a_repair_that_has_not_read_the_damage_says_what_it_has_read() {
    let mut stage = Stage::new(613);
    let path = stage.deposit("unread");
    let _others = [stage.deposit("sound"), stage.deposit("as-sound")];
    stage.server.restart_without_packs();
    stage.api = snowbank_harness::Api::root(&stage.server);
    change(&stage.file(&path), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });

    let found = stage.check(&["--read-data=100%", "--json"]).ended_with(1);
    let report: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(report["repair"], "snowbankd repair --read-data --dry-run");
    let unread = stage.server.command(&["repair", "--dry-run"]).success();
    assert!(unread.stdout.contains("nothing to repair in what was read"), "{unread}");
    assert!(
        unread.stdout.contains("0 packs that seemed damaged")
            && unread.stdout.contains("--read-data"),
        "{unread}"
    );
    let read = stage.server.command(&["repair", "--dry-run", "--read-data"]).success();
    assert!(!read.stdout.contains("nothing to repair"), "{read}");

    // A share that is drawn again is the same share.
    let mut seeds = (0..200_u32).map(|seed| seed.to_string());
    let drawn = seeds
        .find(|seed| stage.check(&["--read-data=10%", "--seed", seed]).code() == Some(1))
        .unwrap();
    let share = ["repair", "--dry-run", "--read-data=10%", "--seed", &drawn];
    let plan = stage.server.command(&share).success();
    assert!(!plan.stdout.contains("nothing to repair"), "{plan}");
    let said = stage.check(&["--read-data=10%", "--seed", &drawn]);
    assert_eq!(advised(&said.stdout).last().map(String::as_str), Some("--dry-run"));
    assert!(said.stdout.contains(&format!("--read-data=10% --seed {drawn} --dry-run")), "{said}");

    stage.server.command(&["repair", "--yes", "--read-data"]).succeeds();
    assert_eq!(stage.fetch(&path), Fetched::Absent);
    let whole =
        stage.server.command(&["repair", "--dry-run", "--read-data", "--paths", "*"]).success();
    assert!(
        whole.stdout.contains("and all ") && whole.stdout.contains("the NARs of `*`"),
        "{whole}"
    );
}

#[test]
fn damage_that_is_met_while_serving_is_withdrawn_at_once_and_never_served() {
    let (stage, paths, bystander) = prepared(607);
    for (number, (case, [path, other])) in CASES.iter().zip(&paths).enumerate() {
        let Some(missing) = case.met else { continue };
        eprintln!("{}", case.what);
        let own = &format!("*-{number}");
        (case.hurt)(&stage, path, other);
        let fetched = stage.fetch(path);
        assert!(fetched != Fetched::Whole, "{}: {fetched:?}", case.what);
        stage.wait_absent(path);
        for replica in stage.server.replicas() {
            assert!(replica.is_ready(), "{}: one damaged path empties no load balancer", case.what);
        }
        let output = stage.check(&[]);
        assert_eq!(output.code(), Some(1), "{}: check tells of it: {output}", case.what);
        assert!(output.stdout.contains(hash_part(path)), "{}: {output}", case.what);

        stage.repair(own);
        assert_eq!(stage.push_again(path), missing.of(path), "{}", case.what);
        if stage.fetch(other) == Fetched::Absent {
            let _ = stage.push_again(other);
        }
        assert_well(&stage, case, own, &[path, other, &bystander]);
    }
    if stage.server.shared().is_some() {
        assert!(stage.server.counted("snowbank_withdrawn_paths_total", &[]) > 1.0);
        assert!(stage.server.counted("snowbank_damaged_chunks_total", &[]) > 1.0);
    }
}
