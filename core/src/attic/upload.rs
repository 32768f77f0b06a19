//! What attic's client says of a NAR that it uploads.

use serde::{Deserialize, Serialize};

use crate::hash::{NarHash, excerpt};
use crate::narinfo::{NarInfo, is_content_address, is_field_value};
use crate::signing::Signature;
use crate::store_path::{StoreDir, StorePath, StorePathError, StorePathHash};

/// The path of an uploaded NAR. It comes in a header or before the NAR in the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadInfo {
    /// The cache's name.
    pub cache: String,
    /// The hash part of the path.
    pub store_path_hash: String,
    /// The path, full.
    pub store_path: String,
    /// Base names of the paths that it refers to. Full paths are read as well.
    pub references: Vec<String>,
    /// The system for which it was built.
    #[serde(default)]
    pub system: Option<String>,
    /// Base name of the derivation that built it.
    #[serde(default)]
    pub deriver: Option<String>,
    /// Its signatures, `name:base64`.
    #[serde(default)]
    pub sigs: Vec<String>,
    /// The content address.
    #[serde(default)]
    pub ca: Option<String>,
    /// SHA-256 of the NAR: `sha256:` and 64 hex digits, or any spelling of Nix.
    pub nar_hash: NarHash,
    /// Bytes of the NAR.
    pub nar_size: u64,
}

/// Why an upload is described by no narinfo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadInfoError {
    /// The path is none, or of another store.
    #[error("`store_path`: {0}")]
    StorePath(StorePathError),
    /// The path has another hash part than is said.
    #[error("`store_path_hash` is `{said}`, and that of `{path}` is another")]
    Hash {
        /// What was said.
        said: String,
        /// The path.
        path: StorePath,
    },
    /// A reference or the deriver is no path.
    #[error("`{field}` has `{text}`, which is no store path: {source}")]
    Name {
        /// The field.
        field: &'static str,
        /// Its beginning.
        text: String,
        /// Why.
        source: StorePathError,
    },
    /// A signature has another form.
    #[error("`sigs` has `{0}`, which is not of the form name:base64")]
    Signature(String),
    /// The content address is none.
    #[error("`ca` is none that Nix knows")]
    ContentAddress,
    /// The system is no word.
    #[error("`system` is not one word")]
    System,
    /// There is no NAR of no bytes.
    #[error("`nar_size` is 0, and no NAR is empty")]
    Empty,
}

impl UploadInfo {
    /// The same as a narinfo, whose NAR is not compressed and lies at `url`.
    ///
    /// # Errors
    /// [`UploadInfoError`], which names the field.
    pub fn to_narinfo(
        &self,
        store_dir: &StoreDir,
        url: String,
    ) -> Result<NarInfo, UploadInfoError> {
        let store_path =
            StorePath::parse(store_dir, &self.store_path).map_err(UploadInfoError::StorePath)?;
        let said = StorePathHash::from_chars(self.store_path_hash.as_bytes());
        if said != Some(store_path.hash()) {
            let said = excerpt(&self.store_path_hash);
            return Err(UploadInfoError::Hash { said, path: store_path });
        }
        if self.nar_size == 0 {
            return Err(UploadInfoError::Empty);
        }
        let named = |field: &'static str, text: &String| {
            let path = if text.starts_with('/') {
                StorePath::parse(store_dir, text)
            } else {
                StorePath::from_base_name(text)
            };
            let text = excerpt(text);
            path.map_err(|source| UploadInfoError::Name { field, text, source })
        };
        let references: Result<Vec<StorePath>, _> =
            self.references.iter().map(|text| named("references", text)).collect();
        let mut references = references?;
        references.sort_unstable();
        references.dedup();
        let signature = |text: &String| {
            text.parse::<Signature>().map_err(|_| UploadInfoError::Signature(excerpt(text)))
        };
        if self.ca.as_ref().is_some_and(|ca| !is_content_address(ca)) {
            return Err(UploadInfoError::ContentAddress);
        }
        if self.system.as_ref().is_some_and(|system| !is_field_value(system)) {
            return Err(UploadInfoError::System);
        }
        Ok(NarInfo {
            store_path,
            url,
            compression: "none".to_owned(),
            file_hash: None,
            file_size: None,
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            references,
            deriver: self.deriver.as_ref().map(|text| named("deriver", text)).transpose()?,
            system: self.system.clone(),
            signatures: self.sigs.iter().map(signature).collect::<Result<_, _>>()?,
            ca: self.ca.clone(),
            extra: Vec::new(),
        })
    }
}

/// What became of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadKind {
    /// Something of it was new.
    Uploaded,
    /// Every chunk of it was there.
    Deduplicated,
}

/// The answer to an upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadResult {
    /// What became of it.
    pub kind: UploadKind,
    /// Bytes of the compressed NAR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// The part of the NAR that was there before, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frac_deduplicated: Option<f64>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HASH: &str = "1b9p07z77phvv2hf6gm9f28syp39f1ag";

    fn info() -> Value {
        json!({
            "cache": "main", "store_path_hash": HASH,
            "store_path": format!("/nix/store/{HASH}-hello-2.12.1"),
            "references": [format!("{HASH}-hello-2.12.1"),
                "00000000000000000000000000000000-libc"],
            "system": "x86_64-linux", "deriver": "00000000000000000000000000000000-hello.drv",
            "sigs": [], "ca": null,
            "nar_hash": format!("sha256:{}", "00".repeat(32)), "nar_size": 226_560,
        })
    }

    fn narinfo(value: Value) -> Result<NarInfo, String> {
        let info: UploadInfo = serde_json::from_value(value).map_err(|error| error.to_string())?;
        info.to_narinfo(&StoreDir::default(), "nar/x.nar".to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_upload_is_the_narinfo_that_it_describes() {
        let narinfo = narinfo(info()).unwrap();
        let dir = StoreDir::default();
        let again = NarInfo::parse(&dir, &narinfo.render(&dir)).unwrap();
        assert_eq!(again, narinfo);
        assert_eq!(narinfo.references.len(), 2);
        assert_eq!(narinfo.references[0].name(), "libc");
    }

    #[test]
    fn fields_that_attic_may_leave_out_may_be_absent() {
        let mut upload = info();
        for field in ["system", "deriver", "sigs", "ca"] {
            upload.as_object_mut().unwrap().remove(field);
        }
        narinfo(upload).unwrap();
    }

    #[test]
    fn a_field_that_would_write_another_line_is_refused() {
        for (field, value) in [
            ("system", json!("x\nSig: a:b")),
            ("system", json!("")),
            ("deriver", json!("00000000000000000000000000000000-a\nCA: x")),
            ("references", json!(["00000000000000000000000000000000-a b"])),
            ("references", json!(["/gnu/store/00000000000000000000000000000000-a"])),
            ("sigs", json!(["name\n:QUJD"])),
            ("sigs", json!(["none"])),
            ("ca", json!("fixed:sha256:x\nSig: y")),
            ("store_path", json!(format!("/gnu/store/{HASH}-hello"))),
            ("store_path_hash", json!("00000000000000000000000000000000")),
            ("store_path_hash", json!("x")),
            ("nar_hash", json!("sha256:00")),
            ("nar_hash", json!("md5:d41d8cd98f00b204e9800998ecf8427e")),
            ("nar_size", json!(0)),
            ("nar_size", json!(-1)),
        ] {
            let mut upload = info();
            upload[field] = value;
            let error = narinfo(upload.clone()).unwrap_err();
            assert!(!error.is_empty(), "{upload}");
        }
    }
}
