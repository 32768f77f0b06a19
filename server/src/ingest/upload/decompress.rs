//! Decompression of uploads, step by step: each step gives at most one buffer, however much a few
//! bytes expand to.
//!
//! The compression shows in the first bytes; a name decides only for brotli, which has no mark of
//! its own. What a decoder takes in memory shows there too, and is known before it is made.

use std::io;

use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::DParameter;
use compression_codecs::{
    BrotliDecoder, BzDecoder, DecodeV2, GzipDecoder, Lz4Decoder, XzDecoder, ZstdDecoder,
};

/// Bytes from which compression and memory are known; a shorter file has fewer.
pub const HEAD_BYTES: usize = 64;
/// What a decoder takes besides its window.
const STATE_BYTES: u64 = 2 << 20;
/// The window of most files.
const USUAL_WINDOW_BYTES: u64 = 8 << 20;
/// The largest window: that of `xz -9`.
pub const MAX_WINDOW_BYTES: u64 = 64 << 20;

/// A compression that Nix writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None at all.
    Plain,
    /// xz, and the older lzma.
    Xz,
    /// bzip2.
    Bzip2,
    /// zstd, one frame or several.
    Zstd,
    /// brotli.
    Brotli,
    /// gzip.
    Gzip,
    /// lz4 with frames.
    Lz4,
}

impl Compression {
    /// The compression of a file that begins with `head`, and whose name is `name`.
    #[must_use]
    pub fn detect(head: &[u8], name: &str) -> Self {
        const MARKS: [(&[u8], Compression); 6] = [
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"]\0\0", Compression::Xz),
            (b"BZh", Compression::Bzip2),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x1f\x8b", Compression::Gzip),
            (b"\x04\x22\x4d\x18", Compression::Lz4),
        ];
        match MARKS.iter().find(|(mark, _)| head.starts_with(mark)) {
            Some((_, compression)) => *compression,
            // Nix's own mark of an archive: a length of 13, and its text.
            None if head.starts_with(b"\x0d\0\0\0\0\0\0\0nix-arch") => Self::Plain,
            None if is_brotli(name) => Self::Brotli,
            None => Self::Plain,
        }
    }

    /// The compression that a `Content-Encoding` names; `None` for one that is not known.
    #[must_use]
    pub fn of_encoding(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Self::Plain,
            "xz" | "lzma" => Self::Xz,
            "bzip2" | "x-bzip2" => Self::Bzip2,
            "zstd" => Self::Zstd,
            "br" => Self::Brotli,
            "gzip" | "x-gzip" => Self::Gzip,
            "lz4" => Self::Lz4,
            _ => return None,
        })
    }

    /// Bytes that decoding takes, as far as `head` says.
    #[must_use]
    pub fn memory(self, head: &[u8]) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Gzip => 64 << 10,
            Self::Bzip2 => 4 << 20,
            Self::Brotli => (16 << 20) + STATE_BYTES,
            // Blocks of 4 MiB, twice, and what stands before one.
            Self::Lz4 => 9 << 20,
            // A later frame may have the usual window where the first one is small.
            Self::Zstd => {
                zstd_window(head).unwrap_or(0).max(USUAL_WINDOW_BYTES).saturating_add(STATE_BYTES)
            }
            Self::Xz => xz_window(head).unwrap_or(USUAL_WINDOW_BYTES).saturating_add(STATE_BYTES),
        }
    }
}

fn is_brotli(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|end| end == "br")
}

/// The window of a zstd frame: RFC 8878, 3.1.1.1.
fn zstd_window(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4)?;
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = *head.get(5)?;
        let base = 1_u64 << (10 + u32::from(window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = match descriptor >> 6 {
        0 => 1,
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let bytes = head.get(5 + dictionary..5 + dictionary + size)?;
    let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    Some(if size == 2 { value + 256 } else { value })
}

/// The dictionary of an xz stream's first block (the .xz file format, 3.1 and 5.3.1), or that of an
/// lzma file.
fn xz_window(head: &[u8]) -> Option<u64> {
    if head.first() == Some(&b']') {
        return Some(u64::from(u32::from_le_bytes(head.get(1..5)?.try_into().ok()?)));
    }
    let block = head.get(12..)?;
    let flags = *block.get(1)?;
    let mut rest = block.get(2..)?;
    for is_there in [flags & 0x40 != 0, flags & 0x80 != 0] {
        if is_there {
            number(&mut rest)?;
        }
    }
    for _ in 0..=(flags & 3) {
        let id = number(&mut rest)?;
        let len = usize::try_from(number(&mut rest)?).ok()?;
        let properties = rest.get(..len)?;
        rest = rest.get(len..)?;
        if id == 0x21 {
            let bits = u32::from(*properties.first()?).min(40);
            return Some(u64::from(2 | (bits & 1)) << (bits / 2 + 11));
        }
    }
    None
}

/// A number in seven bits a byte.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, later) = rest.split_first()?;
        *rest = later;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Decodes one upload.
#[derive(Debug)]
pub struct Decompressor {
    codec: Codec,
    /// Something has come in.
    has_begun: bool,
    /// The last stream that began has ended.
    is_whole: bool,
    /// The decoder may have more for a buffer that was full.
    has_more: bool,
    /// How many more streams may follow.
    streams: u32,
}

#[derive(Debug)]
enum Codec {
    Plain,
    Xz(Box<XzDecoder>),
    Bzip2(Box<BzDecoder>),
    Zstd(Box<ZstdDecoder>),
    Brotli(Box<BrotliDecoder>),
    Gzip(Box<GzipDecoder>),
    Lz4(Box<Lz4Decoder>),
}

impl Decompressor {
    /// A decoder that takes no more than `memory` bytes.
    ///
    /// # Errors
    /// When the decoder cannot be made.
    pub fn new(compression: Compression, memory: u64) -> io::Result<Self> {
        let codec = match compression {
            Compression::Plain => Codec::Plain,
            Compression::Xz => Codec::Xz(Box::new(XzDecoder::with_memlimit(memory))),
            Compression::Bzip2 => Codec::Bzip2(Box::default()),
            Compression::Zstd => {
                let window = memory.saturating_sub(STATE_BYTES).max(1 << 10);
                let log = window.next_power_of_two().trailing_zeros().max(10);
                let limit = DParameter::window_log_max(log);
                Codec::Zstd(Box::new(ZstdDecoder::new_with_params(&[limit])))
            }
            Compression::Brotli => Codec::Brotli(Box::default()),
            Compression::Gzip => Codec::Gzip(Box::default()),
            Compression::Lz4 => Codec::Lz4(Box::default()),
        };
        Ok(Self { codec, has_begun: false, is_whole: false, has_more: false, streams: u32::MAX })
    }

    /// The same, for an upload of at most so many streams, one behind the other. Each costs a new
    /// decoder, however short it is.
    #[must_use]
    pub fn with_streams(mut self, streams: u32) -> Self {
        self.streams = streams;
        self
    }

    /// Decodes from the front of `input`, which becomes shorter, into `output`; gives how many
    /// bytes it wrote. With nothing written and nothing left of `input`, more input is needed.
    ///
    /// # Errors
    /// Bytes that are not of this compression, or that want a larger window.
    pub fn step(&mut self, input: &mut &[u8], output: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < output.len() && (!input.is_empty() || self.has_more) {
            let before = (input.len(), written);
            written += self.run(input, &mut output[written..])?;
            self.has_more = written == output.len() && !self.is_whole;
            if (input.len(), written) == before {
                break;
            }
        }
        Ok(written)
    }

    fn run(&mut self, input: &mut &[u8], output: &mut [u8]) -> io::Result<usize> {
        if let Some(&first) = input.first()
            && (self.is_whole || !self.has_begun)
        {
            self.begin_stream(first)?;
        }
        match &mut self.codec {
            Codec::Plain => {
                let len = input.len().min(output.len());
                output[..len].copy_from_slice(&input[..len]);
                *input = &input[len..];
                Ok(len)
            }
            Codec::Xz(codec) => run(&mut **codec, &mut self.is_whole, input, output),
            Codec::Bzip2(codec) => run(&mut **codec, &mut self.is_whole, input, output),
            Codec::Zstd(codec) => run(&mut **codec, &mut self.is_whole, input, output),
            Codec::Brotli(codec) => run(&mut **codec, &mut self.is_whole, input, output),
            Codec::Gzip(codec) => run(&mut **codec, &mut self.is_whole, input, output),
            Codec::Lz4(codec) => run(&mut **codec, &mut self.is_whole, input, output),
        }
    }

    /// Whether something has come in, and its end has not.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.has_begun && !self.is_whole()
    }

    /// Whether a stream that begins with `first` is one that is decoded.
    fn begin_stream(&mut self, first: u8) -> io::Result<()> {
        self.has_begun = true;
        let refused = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        self.streams = match self.streams.checked_sub(1) {
            Some(left) => left,
            None => return refused("it has more streams, one behind the other, than it may have"),
        };
        // The mark of a window of up to 1 GiB, which is an extension of RFC 7932 (9.1).
        if matches!(self.codec, Codec::Brotli(_)) && first & 0x7f == 0x11 {
            return refused("its window is larger than that of standard brotli");
        }
        Ok(())
    }

    /// Whether the upload may end here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.has_begun && (self.is_whole || matches!(self.codec, Codec::Plain))
    }
}

fn run(
    codec: &mut impl DecodeV2,
    is_whole: &mut bool,
    input: &mut &[u8],
    output: &mut [u8],
) -> io::Result<usize> {
    if *is_whole {
        // Another stream behind the first one.
        codec.reinit()?;
        *is_whole = false;
    }
    let mut from = PartialBuffer::new(*input);
    let mut to = WriteBuffer::new_initialized(output);
    let ended = match codec.decode(&mut from, &mut to) {
        // It had no more, and some decoders call that an error. A real one comes again.
        Err(_) if input.is_empty() => return Ok(0),
        decoded => decoded?,
    };
    let (read, written) = (from.written_len(), to.written_len());
    *input = &input[read..];
    *is_whole = ended;
    Ok(written)
}

#[cfg(test)]
mod tests;
