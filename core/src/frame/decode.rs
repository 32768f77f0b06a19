//! Decoding frames that were verified before: filled ones, into a stream. Also the one call into
//! zstd's decoder.

use zstd::zstd_safe::{self, DCtx};

use super::{FrameError, zstd_message};

/// Decodes frames, one after the other, with one context.
pub struct FrameDecoder {
    context: DCtx<'static>,
}

impl FrameDecoder {
    /// A decoder. Keep it: its context takes about 160 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self { context: DCtx::create() }
    }

    /// Decodes `frame`, which must give `raw_len` bytes, and appends them to `out`.
    ///
    /// # Errors
    /// [`FrameError::Decode`] and [`FrameError::ContentSize`]; `out` is then as it was.
    pub fn decode_into(
        &mut self,
        frame: &[u8],
        raw_len: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let start = out.len();
        out.resize(start + raw_len as usize, 0);
        let done = self.decode(frame, &mut out[start..]);
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    /// Decodes `frame`, which must give exactly the bytes that `out` has room for.
    pub(super) fn decode(&mut self, frame: &[u8], out: &mut [u8]) -> Result<(), FrameError> {
        // At most a chunk's length, or one that was asked for in u32.
        let raw_len = u32::try_from(out.len()).unwrap_or(u32::MAX);
        match zstd_safe::get_frame_content_size(frame) {
            Ok(Some(declared)) if declared == u64::from(raw_len) => {}
            Ok(Some(declared)) => return Err(FrameError::ContentSize { declared, raw_len }),
            Ok(None) => return Err(FrameError::FrameHeader("it does not say its content's size")),
            Err(_) => return Err(FrameError::NotZstd),
        }
        let decoded = self
            .context
            .decompress(out, frame)
            .map_err(|code| FrameError::Decode(zstd_message(code)))?;
        if decoded == out.len() {
            Ok(())
        } else {
            Err(FrameError::Decode(format!(
                "{decoded} bytes came out where {raw_len} were declared"
            )))
        }
    }
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}
