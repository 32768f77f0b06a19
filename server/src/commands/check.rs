//! `snowbankd check`, not written yet.
