//! Nix's formats as this crate reads and writes them, held against what real Nix wrote
//! (`tests/golden/nix`) and against inputs that nobody would write.

mod damage;
mod keys;
mod nar;
mod narinfo;
mod store_paths;
mod tree;

/// The bytes of a file in `tests/golden/nix`.
fn golden(name: &str) -> Vec<u8> {
    // Where the crate is now, not where it was built: a target folder may serve several clones.
    let path = format!("{}/tests/golden/nix/{name}", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text of a file in `tests/golden/nix`.
fn golden_text(name: &str) -> String {
    String::from_utf8(golden(name)).unwrap()
}
