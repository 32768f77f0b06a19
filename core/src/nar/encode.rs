//! Writing a NAR: each function appends the next tokens to a buffer, which the caller hands on when
//! it likes.
//!
//! The caller keeps the grammar: [`magic`] first, then one node; after [`regular_start`] exactly as
//! many bytes as said, then [`regular_end`]; in a directory the entries sorted by the bytes of
//! their names. The `*_LEN` constants and `*_len` functions say what each appends, so that a NAR's
//! size is known without making it.

use super::{MAGIC, padding};

/// Bytes of a string of this length as it stands in a NAR.
#[must_use]
pub const fn string_len(len: u64) -> u64 {
    8 + len + padding(len) as u64
}

const fn tokens_len(tokens: &[&str]) -> usize {
    let mut len = 0;
    let mut at = 0;
    while at < tokens.len() {
        len += 8 + tokens[at].len() + padding(tokens[at].len() as u64);
        at += 1;
    }
    len
}

/// The tokens as they stand in a NAR, `N` being their [`tokens_len`].
const fn tokens<const N: usize>(tokens: &[&str]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut end = 0;
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at].as_bytes();
        let len = (token.len() as u64).to_le_bytes();
        let mut byte = 0;
        while byte < 8 {
            bytes[end + byte] = len[byte];
            byte += 1;
        }
        byte = 0;
        while byte < token.len() {
            bytes[end + 8 + byte] = token[byte];
            byte += 1;
        }
        end += 8 + token.len() + padding(token.len() as u64);
        at += 1;
    }
    bytes
}

macro_rules! token_runs {
    ($($name:ident = $tokens:expr;)+) => {$(
        const $name: [u8; tokens_len(&$tokens)] = tokens(&$tokens);
    )+};
}

token_runs! {
    MAGIC_RUN = [MAGIC];
    REGULAR = ["(", "type", "regular", "contents"];
    EXECUTABLE = ["(", "type", "regular", "executable", "", "contents"];
    SYMLINK = ["(", "type", "symlink", "target"];
    DIRECTORY = ["(", "type", "directory"];
    ENTRY = ["entry", "(", "name"];
    NODE = ["node"];
    CLOSE = [")"];
}

/// What [`magic`] appends.
pub const MAGIC_LEN: u64 = MAGIC_RUN.len() as u64;
/// What [`directory_start`] and [`directory_end`] append together.
pub const DIRECTORY_LEN: u64 = (DIRECTORY.len() + CLOSE.len()) as u64;

/// What [`regular_start`] and [`regular_end`] append together, and the contents between them.
#[must_use]
pub const fn regular_len(executable: bool, size: u64) -> u64 {
    let start = if executable { EXECUTABLE.len() } else { REGULAR.len() };
    (start + CLOSE.len()) as u64 + string_len(size)
}

/// What [`symlink`] appends for a target of this length.
#[must_use]
pub const fn symlink_len(target_len: u64) -> u64 {
    (SYMLINK.len() + CLOSE.len()) as u64 + string_len(target_len)
}

/// What [`entry_start`] and [`entry_end`] append together for a name of this length.
#[must_use]
pub const fn entry_len(name_len: u64) -> u64 {
    (ENTRY.len() + NODE.len() + CLOSE.len()) as u64 + string_len(name_len)
}

/// Appends the beginning of every NAR.
pub fn magic(out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC_RUN);
}

/// Begins a regular file whose `size` bytes of contents come next.
pub fn regular_start(out: &mut Vec<u8>, executable: bool, size: u64) {
    out.extend_from_slice(if executable { &EXECUTABLE } else { &REGULAR });
    out.extend_from_slice(&size.to_le_bytes());
}

/// Ends a regular file of `size` bytes.
pub fn regular_end(out: &mut Vec<u8>, size: u64) {
    pad(out, size);
    out.extend_from_slice(&CLOSE);
}

/// Appends a symlink.
pub fn symlink(out: &mut Vec<u8>, target: &[u8]) {
    out.extend_from_slice(&SYMLINK);
    string(out, target);
    out.extend_from_slice(&CLOSE);
}

/// Begins a directory, whose entries come next.
pub fn directory_start(out: &mut Vec<u8>) {
    out.extend_from_slice(&DIRECTORY);
}

/// Ends a directory.
pub fn directory_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&CLOSE);
}

/// Begins an entry of a directory, whose node comes next.
pub fn entry_start(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(&ENTRY);
    string(out, name);
    out.extend_from_slice(&NODE);
}

/// Ends an entry of a directory.
pub fn entry_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&CLOSE);
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
    pad(out, bytes.len() as u64);
}

fn pad(out: &mut Vec<u8>, len: u64) {
    out.extend_from_slice(&[0; 8][..padding(len)]);
}
