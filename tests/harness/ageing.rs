//! Time that passes within an instant: all times in the database move back, so that everything is
//! older.
//!
//! The collector does not trust the clock: servers note the time, and what lies between two notes
//! that are far apart does not count as age. So there are two ways to move the times. After
//! [`age_everything`] it is as though servers had run and noted the time all along; after [`jump`],
//! as though the clock had been set ahead, or nobody had run.

use serde_json::{Value, json};

use crate::{Server, database};

/// An hour, in seconds.
pub const HOUR: i64 = 3_600;
/// A day, in seconds.
pub const DAY: i64 = 24 * HOUR;

/// Every column that holds a time of something that is kept for a time, by table.
const TIMES: [(&str, &[&str]); 13] = [
    ("paths", &["created", "last_used", "expires"]),
    ("nars", &["created"]),
    ("packs", &["created", "died"]),
    ("pins", &["expires"]),
    ("pin_generations", &["created"]),
    ("unreferenced_nars", &["since"]),
    ("unnamed_objects", &["seen"]),
    ("caches", &["destroyed"]),
    ("damaged_chunks", &["found"]),
    ("withdrawn_paths", &["since"]),
    ("nar_uploads", &["created"]),
    ("waiting_paths", &["created"]),
    ("cache_files", &["created"]),
];

/// Makes everything older by so many seconds, in which servers ran.
pub fn age_everything(server: &Server, seconds: i64) {
    shift(server, seconds, false);
}

/// Makes everything older by so many seconds in which no server ran: to a server, its clock has
/// jumped ahead.
pub fn jump(server: &Server, seconds: i64) {
    shift(server, seconds, true);
}

fn shift(server: &Server, seconds: i64, unnoticed: bool) {
    let one = |(table, columns): &(&str, &[&str])| {
        let set: Vec<String> =
            columns.iter().map(|column| format!("{column} = {column} - {seconds}")).collect();
        format!("UPDATE {table} SET {}", set.join(", "))
    };
    let statements: Vec<String> = TIMES.iter().map(one).collect();
    database::change(server, &statements, "clock", |clock| {
        shifted(clock, seconds, unnoticed).to_string()
    });
}

/// What servers have noted of the time, moved: `since` (when uses were noted first), `noted` (the
/// last note) and `jumps`.
fn shifted(clock: Option<String>, seconds: i64, unnoticed: bool) -> Value {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    // Not noted yet: as the server would have at its start, just now.
    let mut clock = clock.map_or_else(
        || json!({ "since": now, "noted": now, "jumps": [] }),
        |text| {
            serde_json::from_str(&text)
                .unwrap_or_else(|e| panic!("the setting `clock`: {e}: {text}"))
        },
    );
    let back = |value: &mut Value| {
        let time = value
            .as_i64()
            .unwrap_or_else(|| panic!("the setting `clock` has another form: {value}"));
        *value = json!(time - seconds);
    };
    if unnoticed {
        back(&mut clock["since"]);
        back(&mut clock["noted"]);
    } else {
        // As though uses had always been noted: should a server write its own note at this moment,
        // nothing is different.
        clock["since"] = json!(0);
    }
    for one in clock["jumps"].as_array_mut().into_iter().flatten() {
        back(&mut one["to"]);
    }
    clock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_passes_leaves_the_last_note_and_a_jump_takes_it_along() {
        let clock = json!({ "since": 100, "noted": 900, "jumps": [{ "to": 500, "seconds": 30 }] })
            .to_string();
        let passed = json!({ "since": 0, "noted": 900, "jumps": [{ "to": 490, "seconds": 30 }] });
        assert_eq!(shifted(Some(clock.clone()), 10, false), passed);
        assert_eq!(shifted(Some(clock), 10, true)["noted"], json!(890));
    }
}
