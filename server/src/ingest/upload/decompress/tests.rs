//! Decompression as Nix's uploads need it, with the programs that make such files.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

/// What a program of the system makes of `input`.
fn compressed(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Half of it repeats.
    (0..bytes.div_ceil(16)).flat_map(|_| (next() & 0xff).to_le_bytes().repeat(2)).collect()
}

/// Decodes in pieces of `piece` bytes into buffers of `buffer` bytes.
fn decode(file: &[u8], name: &str, piece: usize, buffer: usize) -> io::Result<Option<Vec<u8>>> {
    let head = &file[..file.len().min(HEAD_BYTES)];
    let compression = Compression::detect(head, name);
    let mut decoder = Decompressor::new(compression, compression.memory(head))?;
    let (mut output, mut whole) = (vec![0; buffer], Vec::new());
    for mut piece in file.chunks(piece) {
        loop {
            let len = decoder.step(&mut piece, &mut output)?;
            if len == 0 {
                assert!(piece.is_empty(), "input is left and nothing comes");
                break;
            }
            whole.extend_from_slice(&output[..len]);
        }
    }
    Ok(decoder.is_whole().then_some(whole))
}

/// Every compression, and a program that makes it.
const PROGRAMS: [(&str, &[&str], &str); 7] = [
    ("xz", &["-c", "-3"], "a.nar.xz"),
    ("xz", &["-c", "--format=lzma"], "a.nar.lzma"),
    ("bzip2", &["-c"], "a.nar.bz2"),
    ("gzip", &["-c"], "a.nar"),
    ("zstd", &["-c", "-q"], "a.nar.zst"),
    ("brotli", &["-c"], "a.nar.br"),
    ("lz4", &["-c", "-q"], "a.nar.lz4"),
];

/// Whether this machine has a program.
fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

#[test]
fn every_compression_is_decoded_in_pieces_of_any_size() {
    let plain = noise(300_000);
    let mut tried = 0;
    for (program, args, name) in PROGRAMS.into_iter().filter(|(program, ..)| has(program)) {
        tried += 1;
        let file = compressed(program, args, &plain);
        for (piece, buffer) in [(1, 4096), (7, 100_000), (4096, 1), (65_536, 300_001)] {
            let whole = decode(&file, name, piece, buffer).unwrap();
            assert!(whole.as_deref() == Some(&plain[..]), "{program} {piece} {buffer}");
        }
        let cut_off = decode(&file[..file.len() - 5], name, 1000, 5000);
        assert!(!matches!(cut_off, Ok(Some(_))), "{program} takes a file that is cut off");
        let mut damaged = file.clone();
        damaged[file.len() / 2] ^= 0x55;
        let is_same = |whole: Option<Vec<u8>>| whole.is_some_and(|whole| whole == plain);
        assert!(!decode(&damaged, name, 1000, 5000).is_ok_and(is_same), "{program}");
    }
    assert!(tried >= 4, "this machine has hardly any program that compresses");
}

#[test]
fn streams_one_behind_the_other_are_one_file() {
    let (one, two) = (noise(100_000), noise(50_000));
    for (program, args, name) in PROGRAMS.into_iter().filter(|(program, ..)| has(program)) {
        if matches!(program, "brotli") || args.contains(&"--format=lzma") {
            continue;
        }
        let file = [compressed(program, args, &one), compressed(program, args, &two)].concat();
        let whole = decode(&file, name, 1000, 7000).unwrap();
        assert!(whole == Some([&one[..], &two].concat()), "{program}");
    }
}

#[test]
fn the_memory_of_a_decoder_shows_in_the_first_bytes() {
    let plain = noise(2_000_000);
    for (level, window) in [("-0", 256 << 10), ("-6", 8 << 20), ("-9", 64 << 20)] {
        let file = compressed("xz", &["-c", level], &plain);
        assert_eq!(xz_window(&file[..HEAD_BYTES]), Some(window), "xz {level}");
    }
    if has("zstd") {
        let file = compressed("zstd", &["-c", "-q", "--long=26"], &plain);
        let window = zstd_window(&file[..HEAD_BYTES]).unwrap();
        assert!((1 << 20..=64 << 20).contains(&window), "{window}");
    }
}

#[test]
fn a_larger_window_than_was_said_is_an_error() {
    let plain = noise(3_000_000);
    let file = compressed("xz", &["-c", "-9"], &plain);
    let mut decoder = Decompressor::new(Compression::Xz, 1 << 20).unwrap();
    let mut output = vec![0; 4096];
    decoder.step(&mut &file[..], &mut output).unwrap_err();
}

#[test]
fn a_few_bytes_give_one_buffer_at_a_time() {
    let file = compressed("gzip", &["-c", "-9"], &vec![0; 50 << 20]);
    assert!(file.len() < 100_000);
    let mut decoder = Decompressor::new(Compression::Gzip, 1 << 20).unwrap();
    let (mut rest, mut output) = (&file[..], vec![0; 1 << 16]);
    assert_eq!(decoder.step(&mut rest, &mut output).unwrap(), 1 << 16);
    assert!(!rest.is_empty());
}

#[test]
fn plain_files_and_unknown_ones_pass_as_they_are() {
    let nar = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0".to_vec();
    assert_eq!(Compression::detect(&nar, "a.nar.br"), Compression::Plain);
    assert_eq!(Compression::detect(b"\x8b\x04\x80", "a.nar.br"), Compression::Brotli);
    assert_eq!(decode(&nar, "a.nar", 5, 3).unwrap(), Some(nar));
    assert_eq!(decode(b"", "a.nar", 5, 3).unwrap(), None);
}
