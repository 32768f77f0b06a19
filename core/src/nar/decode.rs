//! Reading a NAR as it arrives: a push parser that takes slices of any length and hands on what
//! they mean.
//!
//! Exactly what Nix writes is taken, so that equal trees have equal bytes: no other order of
//! tokens, no unsorted or repeated names, no bytes but zeros in the padding, nothing behind the
//! end. Contents of files are handed on as slices of the input, never copied; only a token that a
//! slice cuts is kept until the rest of it comes. Memory is bounded by [`MAX_TARGET_LEN`] and, for
//! the last name in each open directory, by [`MAX_DEPTH`](super::MAX_DEPTH) × [`MAX_NAME_LEN`].
//! Events and errors do not depend on how the input is cut, except for where [`Event::Data`] is.

use super::directories::Directories;
pub use super::error::{NarError, NarErrorKind};
use super::{MAGIC, MAX_FILE_SIZE, MAX_NAME_LEN, MAX_TARGET_LEN, padding};

/// What a NAR says, in order. A node is `Directory`, entries, `DirectoryEnd`; or `Regular`, its
/// data, `RegularEnd`; or `Symlink`. An entry is `Entry`, its node, `EntryEnd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A directory begins.
    Directory,
    /// An entry of the innermost directory begins.
    Entry {
        /// Its name: not empty, `.` or `..`, without `/` and NUL, at most [`MAX_NAME_LEN`] bytes,
        /// above the name before.
        name: &'a [u8],
    },
    /// A regular file begins.
    Regular {
        /// Whether its owner may execute it.
        executable: bool,
        /// Bytes of its contents, all of which come in `Data` events.
        size: u64,
    },
    /// The next bytes of the innermost regular file, never empty.
    Data(&'a [u8]),
    /// All of the regular file's contents have been handed on.
    RegularEnd,
    /// A symlink.
    Symlink {
        /// Where it points: not empty, without NUL, at most [`MAX_TARGET_LEN`] bytes.
        target: &'a [u8],
    },
    /// The entry is complete.
    EntryEnd,
    /// The directory is complete.
    DirectoryEnd,
}

/// What must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Magic,
    /// The `(` of a node.
    Open,
    TypeTag,
    Type,
    /// `executable` or `contents`.
    RegularTag,
    ExecutableValue,
    ContentsTag,
    /// The length of a file's contents.
    ContentsLen {
        executable: bool,
    },
    /// This many bytes of contents, at least one, then this many of padding.
    Contents {
        left: u64,
        padding: usize,
    },
    /// This many bytes of padding behind contents, at least one.
    ContentsPadding {
        left: usize,
    },
    TargetTag,
    Target,
    /// The `)` of a node.
    Close,
    /// `entry`, or the `)` of a directory.
    EntryOrClose,
    EntryOpen,
    NameTag,
    Name,
    NodeTag,
    /// The `)` of an entry.
    EntryClose,
    End,
}

impl State {
    /// The longest string that may come next, and what it must be if there is no choice.
    const fn expects(self) -> (usize, &'static str) {
        match self {
            Self::Magic => (MAGIC.len(), "the beginning of a NAR, `nix-archive-1`"),
            Self::Open | Self::EntryOpen => (1, "`(`"),
            Self::TypeTag => (4, "`type`"),
            Self::Type => (9, "`regular`, `symlink` or `directory`"),
            Self::RegularTag => (10, "`executable` or `contents`"),
            Self::ExecutableValue => (0, "an empty string after `executable`"),
            Self::ContentsTag => (8, "`contents`"),
            Self::TargetTag => (6, "`target`"),
            Self::Target => (MAX_TARGET_LEN, "a symlink's target"),
            Self::Close | Self::EntryClose => (1, "`)`"),
            Self::EntryOrClose => (5, "`entry` or `)`"),
            Self::NameTag => (4, "`name`"),
            Self::Name => (MAX_NAME_LEN, "a file name"),
            Self::NodeTag => (4, "`node`"),
            Self::ContentsLen { .. }
            | Self::Contents { .. }
            | Self::ContentsPadding { .. }
            | Self::End => (0, "no string"),
        }
    }
}

/// A streaming reader of one NAR.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    directories: Directories,
    /// The beginning of a token that the input so far has cut.
    cut: Vec<u8>,
    /// Bytes before the token that `state` waits for.
    offset: u64,
    error: Option<NarErrorKind>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the beginning of a NAR.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Magic,
            directories: Directories::new(),
            cut: Vec::new(),
            offset: 0,
            error: None,
        }
    }

    /// Takes the next bytes and hands on what they mean; what came before an error has been handed
    /// on.
    ///
    /// # Errors
    /// [`NarError`], and the same again from every later call.
    pub fn feed<F>(&mut self, input: &[u8], on_event: &mut F) -> Result<(), NarError>
    where
        F: FnMut(Event<'_>) + ?Sized,
    {
        if self.error.is_none() {
            self.error = self.advance(input, on_event).err();
        }
        match &self.error {
            None => Ok(()),
            Some(kind) => Err(NarError { offset: self.offset, kind: kind.clone() }),
        }
    }

    /// Ends the input.
    ///
    /// # Errors
    /// [`NarErrorKind::Truncated`] where the archive is not complete, or the error that
    /// [`Self::feed`] gave.
    pub fn finish(self) -> Result<(), NarError> {
        match (self.error, self.state) {
            (Some(kind), _) => Err(NarError { offset: self.offset, kind }),
            (None, State::End) => Ok(()),
            (None, _) => Err(NarError {
                offset: self.offset + self.cut.len() as u64,
                kind: NarErrorKind::Truncated,
            }),
        }
    }

    /// Whether the archive is complete; anything more would be an error.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.error.is_none() && self.state == State::End
    }

    fn advance<F>(&mut self, mut input: &[u8], on_event: &mut F) -> Result<(), NarErrorKind>
    where
        F: FnMut(Event<'_>) + ?Sized,
    {
        while !input.is_empty() {
            input = match self.state {
                State::Contents { left, padding } => self.contents(input, left, padding, on_event),
                State::ContentsPadding { left } => self.contents_padding(input, left, on_event)?,
                State::End => return Err(NarErrorKind::TrailingBytes),
                _ if self.cut.is_empty() => match self.token_len(input)? {
                    Some(len) if len <= input.len() => {
                        let (token, rest) = input.split_at(len);
                        self.token(token, on_event)?;
                        rest
                    }
                    _ => {
                        self.cut.extend_from_slice(input);
                        &[]
                    }
                },
                _ => self.complete_cut(input, on_event)?,
            };
        }
        Ok(())
    }

    /// Moves bytes of `input` to the token that was cut, takes it if that makes it whole, and gives
    /// the rest.
    fn complete_cut<'a, F>(
        &mut self,
        mut input: &'a [u8],
        on_event: &mut F,
    ) -> Result<&'a [u8], NarErrorKind>
    where
        F: FnMut(Event<'_>) + ?Sized,
    {
        while !input.is_empty() {
            let len = self.token_len(&self.cut)?;
            let missing = len.unwrap_or(8) - self.cut.len();
            let (more, rest) = input.split_at(missing.min(input.len()));
            self.cut.extend_from_slice(more);
            input = rest;
            if self.token_len(&self.cut)? == Some(self.cut.len()) {
                let token = std::mem::take(&mut self.cut);
                let result = self.token(&token, on_event);
                // Keep the allocation: tokens are cut once per slice of input.
                self.cut = token;
                self.cut.clear();
                result?;
                break;
            }
        }
        Ok(input)
    }

    /// Bytes of the token at the beginning of `bytes`, padding included; `None` if they do not say
    /// yet. Bounded.
    fn token_len(&self, bytes: &[u8]) -> Result<Option<usize>, NarErrorKind> {
        let Some(len) = bytes.first_chunk().map(|len| u64::from_le_bytes(*len)) else {
            return Ok(None);
        };
        if let State::ContentsLen { .. } = self.state {
            return Ok(Some(8));
        }
        let (max, expected) = self.state.expects();
        match usize::try_from(len) {
            Ok(string) if string <= max => Ok(Some(8 + string + padding(len))),
            _ => Err(match self.state {
                State::Name => NarErrorKind::NameTooLong(len),
                State::Target => NarErrorKind::TargetTooLong(len),
                _ => NarErrorKind::Expected(expected),
            }),
        }
    }

    /// Takes a whole token, of the length that [`Self::token_len`] gave.
    fn token<F>(&mut self, token: &[u8], on_event: &mut F) -> Result<(), NarErrorKind>
    where
        F: FnMut(Event<'_>) + ?Sized,
    {
        let (len, string) = token.split_first_chunk().ok_or(NarErrorKind::Truncated)?;
        let len = u64::from_le_bytes(*len);
        self.state = if let State::ContentsLen { executable } = self.state {
            contents_of(len, executable, on_event)?
        } else {
            let (string, zeros) = string.split_at(string.len() - padding(len));
            if zeros.iter().any(|&byte| byte != 0) {
                return Err(NarErrorKind::BadPadding);
            }
            self.string(string, on_event)?
        };
        self.offset += token.len() as u64;
        Ok(())
    }

    /// Takes a string and gives what must come next.
    fn string<F>(&mut self, string: &[u8], on_event: &mut F) -> Result<State, NarErrorKind>
    where
        F: FnMut(Event<'_>) + ?Sized,
    {
        Ok(match (self.state, string) {
            (State::Magic, string) if string == MAGIC.as_bytes() => State::Open,
            (State::Open, b"(") => State::TypeTag,
            (State::TypeTag, b"type") => State::Type,
            (State::Type, b"regular") => State::RegularTag,
            (State::Type, b"symlink") => State::TargetTag,
            (State::Type, b"directory") => {
                self.directories.enter()?;
                on_event(Event::Directory);
                State::EntryOrClose
            }
            (State::RegularTag, b"contents") => State::ContentsLen { executable: false },
            (State::RegularTag, b"executable") => State::ExecutableValue,
            (State::ExecutableValue, b"") => State::ContentsTag,
            (State::ContentsTag, b"contents") => State::ContentsLen { executable: true },
            (State::TargetTag, b"target") => State::Target,
            (State::Target, target) => {
                if target.is_empty() || target.contains(&0) {
                    return Err(NarErrorKind::BadTarget);
                }
                on_event(Event::Symlink { target });
                State::Close
            }
            (State::Close, b")") => self.after_node(),
            (State::EntryOrClose, b"entry") => State::EntryOpen,
            (State::EntryOrClose, b")") => {
                self.directories.leave();
                on_event(Event::DirectoryEnd);
                self.after_node()
            }
            (State::EntryOpen, b"(") => State::NameTag,
            (State::NameTag, b"name") => State::Name,
            (State::Name, name) => {
                self.directories.advance(name)?;
                on_event(Event::Entry { name });
                State::NodeTag
            }
            (State::NodeTag, b"node") => State::Open,
            (State::EntryClose, b")") => {
                on_event(Event::EntryEnd);
                State::EntryOrClose
            }
            (state, _) => return Err(NarErrorKind::Expected(state.expects().1)),
        })
    }

    /// What must come behind a node, the innermost open directory being the one that it is in.
    fn after_node(&self) -> State {
        if self.directories.is_empty() { State::End } else { State::EntryClose }
    }

    /// Hands on contents of a file and gives the rest of `input`.
    fn contents<'a, F>(
        &mut self,
        input: &'a [u8],
        left: u64,
        padding: usize,
        on_event: &mut F,
    ) -> &'a [u8]
    where
        F: FnMut(Event<'_>) + ?Sized,
    {
        let len = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (data, rest) = input.split_at(len);
        on_event(Event::Data(data));
        self.offset += len as u64;
        self.state = match left - len as u64 {
            0 => after_contents(padding, on_event),
            left => State::Contents { left, padding },
        };
        rest
    }

    fn contents_padding<'a, F>(
        &mut self,
        input: &'a [u8],
        left: usize,
        on_event: &mut F,
    ) -> Result<&'a [u8], NarErrorKind>
    where
        F: FnMut(Event<'_>) + ?Sized,
    {
        match input {
            [0, rest @ ..] => {
                self.offset += 1;
                self.state = after_contents(left - 1, on_event);
                Ok(rest)
            }
            _ => Err(NarErrorKind::BadPadding),
        }
    }
}

fn contents_of<F>(size: u64, executable: bool, on_event: &mut F) -> Result<State, NarErrorKind>
where
    F: FnMut(Event<'_>) + ?Sized,
{
    if size > MAX_FILE_SIZE {
        return Err(NarErrorKind::FileTooLarge(size));
    }
    on_event(Event::Regular { executable, size });
    Ok(match size {
        0 => after_contents(0, on_event),
        left => State::Contents { left, padding: padding(size) },
    })
}

/// What must come behind contents of which nothing is left but this much padding.
fn after_contents<F>(padding: usize, on_event: &mut F) -> State
where
    F: FnMut(Event<'_>) + ?Sized,
{
    if padding == 0 {
        on_event(Event::RegularEnd);
        State::Close
    } else {
        State::ContentsPadding { left: padding }
    }
}

/// A [`Decoder`] that only says whether the bytes are a NAR.
#[derive(Debug, Default)]
pub struct Validator(Decoder);

impl Validator {
    /// A validator at the beginning of a NAR.
    #[must_use]
    pub const fn new() -> Self {
        Self(Decoder::new())
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As [`Decoder::feed`].
    pub fn feed(&mut self, input: &[u8]) -> Result<(), NarError> {
        self.0.feed(input, &mut |_: Event<'_>| {})
    }

    /// Ends the input.
    ///
    /// # Errors
    /// As [`Decoder::finish`].
    pub fn finish(self) -> Result<(), NarError> {
        self.0.finish()
    }
}
