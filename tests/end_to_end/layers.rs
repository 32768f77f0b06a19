//! Inside the server, arrows only fall: no layer imports one above it, and within a layer there is
//! no circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The layers, lowest first, of the server's top-level modules. `app` is what `http` works with:
/// the two are one.
const LAYERS: [&[&str]; 9] = [
    &["clock", "config", "fault", "files", "telemetry"],
    &["admission", "db", "storage", "secrets"],
    &["chain", "directory"],
    &["auth", "pack"],
    &["damage"],
    &["ingest", "serving", "gc", "admin"],
    &["integrity"],
    &["http"],
    &["commands"],
];

/// The unit that a module belongs to.
fn unit(module: &str) -> &str {
    if module == "app" { "http" } else { module }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            sources(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            found.push(entry.path());
        }
    }
}

/// The top-level modules that a source file names as `crate::MODULE`, tests and comments left out.
fn imports(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in
        code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
    {
        for rest in line.split("crate::").skip(1) {
            let names =
                rest.strip_prefix('{').map_or_else(|| vec![rest], |list| list.split(',').collect());
            for name in names {
                let name: String = name
                    .trim()
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                if !name.is_empty() {
                    found.push((number + 1, name));
                }
            }
        }
    }
    found
}

#[test]
fn arrows_only_fall() {
    let layer_of: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, names)| names.iter().map(move |name| (*name, layer)))
        .collect();
    // Where the crate is now, not where it was built: a target folder may serve several clones.
    let root = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../server/src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut rising, mut arrows) = (Vec::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let own = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let own = unit(own.trim_end_matches(".rs"));
        if own == "lib" || own == "main" || relative.ends_with("tests.rs") {
            continue;
        }
        let own_layer = *layer_of
            .get(own)
            .unwrap_or_else(|| panic!("the module {own} is in no layer; name its place"));
        for (line, name) in imports(&fs::read_to_string(&file).unwrap()) {
            let name = unit(&name);
            let Some(layer) = layer_of.get(name) else { continue };
            if *layer > own_layer {
                rising.push(format!("{}:{line}: {own} imports {name}", relative.display()));
            }
            if name != own {
                arrows.entry(own.to_owned()).or_default().insert(name.to_owned());
            }
        }
    }
    assert!(rising.is_empty(), "arrows that rise:\n{}", rising.join("\n"));
    assert!(arrows.len() > 8, "the sources are read: {arrows:?}");

    // Taking away what imports nothing that is left takes away everything, unless there is a
    // circle.
    while let Some(lowest) =
        arrows.iter().find(|(_, to)| to.iter().all(|name| !arrows.contains_key(name)))
    {
        let lowest = lowest.0.clone();
        arrows.remove(&lowest);
    }
    assert!(arrows.is_empty(), "these import one another in a circle: {arrows:?}");
}
