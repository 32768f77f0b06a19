//! A secret string: wiped when dropped, and with no way to print it by accident.

use zeroize::Zeroizing;

/// A token. Neither `Debug` nor `Display`: whoever needs the text calls [`Secret::expose`], and is
/// easy to find.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` over, without the white space around it; `None` when nothing is left.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text itself: for a request's header, a file of mode 0600, nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
