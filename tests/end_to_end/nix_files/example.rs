//! `config.example.toml` and `nix/options.nix`, each as a list of keys, and what differs between
//! them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A key as the example shows it.
#[derive(Debug)]
pub struct Shown {
    /// The value beside it.
    value: Value,
    /// Whether that is its default: the line begins with `#: `, or with nothing.
    is_default: bool,
    /// The comment above it.
    comment: String,
}

/// The example's keys by their dotted paths. A section of free keys, such as claims, is there by
/// its head.
pub fn example(text: &str) -> (BTreeMap<String, Shown>, BTreeSet<String>) {
    let (mut keys, mut heads) = (BTreeMap::new(), BTreeSet::new());
    let (mut section, mut comment, mut after_key) = (String::new(), String::new(), false);
    for line in text.lines() {
        let marked = line.strip_prefix("#: ");
        let is_default = marked.is_some() || !line.starts_with('#');
        let rest = marked.unwrap_or_else(|| line.trim_start_matches('#')).trim();
        if let Some(head) = head(rest) {
            head.clone_into(&mut section);
            heads.insert(section.clone());
            comment.clear();
            continue;
        }
        match toml::from_str::<toml::Table>(rest) {
            Ok(table) if !table.is_empty() => {
                for (key, value) in table {
                    let path = if section.is_empty() { key } else { format!("{section}.{key}") };
                    let value = serde_json::to_value(value).unwrap();
                    keys.insert(path, Shown { value, is_default, comment: comment.clone() });
                }
                after_key = true;
            }
            result => {
                let is_prose = line.starts_with('#') && marked.is_none();
                assert!(is_prose || rest.is_empty(), "`{line}`: {result:?}");
                if after_key || rest.is_empty() {
                    comment.clear();
                }
                after_key = false;
                comment = format!("{comment} {rest}");
            }
        }
    }
    (keys, heads)
}

/// What stands in `[…]` or `[[…]]`, if the line is nothing else.
fn head(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte))
        .then_some(name)
}

/// The options by their dotted paths, those within tables too; arrays of tables themselves are left
/// out.
pub fn options(tree: &Value) -> BTreeMap<String, Value> {
    fn add(prefix: &str, tree: &Value, found: &mut BTreeMap<String, Value>) {
        for (name, node) in tree.as_object().unwrap() {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if !node["description"].is_string() {
                add(&path, node, found);
            } else if node["type"]["tables"].is_object() {
                add(&path, &node["type"]["tables"], found);
            } else {
                found.insert(path, node.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    add("", tree, &mut found);
    found
}

/// Every difference, as a line.
pub fn differences(text: &str, tree: &Value) -> Vec<String> {
    let ((keys, heads), options) = (example(text), options(tree));
    let mut found = Vec::new();
    let is_free = |option: &Value| option["type"]["attrsOf"] != Value::Null;
    for path in keys.keys() {
        let within = |section: &String| {
            path.strip_prefix(section.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        let free = options.iter().any(|(section, option)| is_free(option) && within(section));
        if !options.contains_key(path) && !free {
            found.push(format!("`{path}` is in the example and has no option"));
        }
    }
    for (path, option) in &options {
        match keys.get(path) {
            Some(shown) => {
                found.extend(difference(option, shown).map(|what| format!("`{path}`: {what}")));
            }
            None if is_free(option) && heads.contains(path) => {}
            None => found.push(format!("`{path}` is an option and is not in the example")),
        }
    }
    found
}

fn difference(option: &Value, shown: &Shown) -> Option<String> {
    let (kind, default) = (&option["type"], &option["default"]);
    if shown.is_default && *default != shown.value {
        return Some(format!(
            "the default is {default} as an option and {} in the example",
            shown.value
        ));
    }
    let is_empty = default.as_array().is_some_and(Vec::is_empty)
        || default.as_object().is_some_and(serde_json::Map::is_empty);
    if !shown.is_default && !default.is_null() && !is_empty {
        return Some(format!("the default is {default} as an option, and the example has none"));
    }
    if !fits(kind, &shown.value) {
        return Some(format!("{} is not of the type {kind}", shown.value));
    }
    let allowed = shown.comment.split_once("Allowed:").map(|(_, list)| quoted(list));
    match (kind["enum"].as_array(), allowed) {
        (Some(values), Some(allowed)) => {
            let values: BTreeSet<&str> = values.iter().filter_map(Value::as_str).collect();
            (values != allowed).then(|| {
                format!("allowed are {values:?} as an option and {allowed:?} in the example")
            })
        }
        (Some(values), None) => {
            let absent = values
                .iter()
                .filter_map(Value::as_str)
                .find(|value| !shown.comment.contains(value));
            absent.map(|value| format!("the example's comment does not name the value `{value}`"))
        }
        (None, Some(allowed)) => {
            Some(format!("the example allows {allowed:?}, and the option anything"))
        }
        (None, None) => None,
    }
}

/// The words of a text that stand in double quotes.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

fn fits(kind: &Value, value: &Value) -> bool {
    if kind == "bool" {
        value.is_boolean()
    } else if let Some(bounds) = kind["between"].as_array() {
        value.as_i64().is_some_and(|value| {
            bounds[0].as_i64() <= Some(value) && Some(value) <= bounds[1].as_i64()
        })
    } else if let Some(values) = kind["enum"].as_array() {
        values.contains(value)
    } else if kind["listOf"] != Value::Null {
        value
            .as_array()
            .is_some_and(|values| values.iter().all(|value| fits(&kind["listOf"], value)))
    } else if kind["attrsOf"] != Value::Null {
        value
            .as_object()
            .is_some_and(|values| values.values().all(|value| fits(&kind["attrsOf"], value)))
    } else if let Some(kinds) = kind["either"].as_array() {
        kinds.iter().any(|kind| fits(kind, value))
    } else {
        value.is_string()
    }
}
