//! What nix.conf files set: `name = value`, `extra-name = value`, `include file`, `!include file`,
//! comments after `#`.
//!
//! Source: Nix's `applyConfig` in `config.cc`. Later lines count more; an `extra-` line adds to
//! what stands before it. A line that is none is passed over: Nix itself says what is wrong with
//! it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::config::ConfigError;

/// How deep files may include one another.
const MAX_INCLUDES: u32 = 16;

/// Settings, in the order of their lines.
#[derive(Debug, Clone, Default)]
pub struct NixSettings {
    lines: BTreeMap<String, Vec<Line>>,
    /// A file, and the text that is read in its place.
    replaced: Option<(PathBuf, String)>,
}

#[derive(Debug, Clone)]
struct Line {
    is_extra: bool,
    value: String,
    origin: Origin,
}

/// Where a line stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file, and the line in it, counted from 1.
    File(PathBuf, usize),
    /// Another text, which is that of the variable `NIX_CONFIG`.
    Variable,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Variable => f.write_str("the variable NIX_CONFIG"),
        }
    }
}

impl NixSettings {
    /// Settings that are read as if `file` had the contents `text`.
    #[must_use]
    pub fn with_file(file: &Path, text: &str) -> Self {
        Self { lines: BTreeMap::new(), replaced: Some((file.to_owned(), text.to_owned())) }
    }

    /// Adds the file at `path` and the files that it includes; one that is not there adds nothing.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        self.add_file_at(path, 0)
    }

    /// Adds the lines of `text`, whose includes are relative to `folder`.
    ///
    /// # Errors
    /// As [`NixSettings::add_file`].
    pub fn add_text(&mut self, text: &str, folder: &Path) -> Result<(), ConfigError> {
        self.add_text_at(text, folder, None, 0)
    }

    fn add_file_at(&mut self, path: &Path, depth: u32) -> Result<(), ConfigError> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        if let Some((file, text)) = &self.replaced
            && file == path
        {
            let text = text.clone();
            return self.add_text_at(&text, folder, Some(path), depth);
        }
        match fs::read(path) {
            Ok(text) => {
                self.add_text_at(&String::from_utf8_lossy(&text), folder, Some(path), depth)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(())
            }
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    fn add_text_at(
        &mut self,
        text: &str,
        folder: &Path,
        file: Option<&Path>,
        depth: u32,
    ) -> Result<(), ConfigError> {
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            if let Some((name, value)) = line.split_once('=') {
                let origin =
                    file.map_or(Origin::Variable, |file| Origin::File(file.to_owned(), index + 1));
                self.add(name.trim(), value, origin);
            } else if let [include, file] = line.split_whitespace().collect::<Vec<_>>()[..]
                && matches!(include, "include" | "!include")
                && depth < MAX_INCLUDES
            {
                self.add_file_at(&folder.join(file), depth + 1)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str, origin: Origin) {
        let (name, is_extra) =
            name.strip_prefix("extra-").map_or((name, false), |name| (name, true));
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        self.lines.entry(current_name(name).to_owned()).or_default().push(Line {
            is_extra,
            value,
            origin,
        });
    }

    /// Where the line stands that sets a setting anew, without regard to the lines before it: the
    /// last of them.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.lines.get(name)?.iter().rev().find(|line| !line.is_extra).map(|line| &line.origin)
    }

    /// Whether any line comes from that file.
    #[must_use]
    pub fn has_lines_of(&self, path: &Path) -> bool {
        let is_of = |line: &Line| matches!(&line.origin, Origin::File(file, _) if file == path);
        self.lines.values().flatten().any(is_of)
    }

    /// The value of a setting that is one text; `None` where no line sets it.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.lines
            .get(name)?
            .iter()
            .rev()
            .find(|line| !line.is_extra)
            .map(|line| line.value.as_str())
    }

    /// The words of a setting that is a list: `default` where no line sets it, and what `extra-`
    /// lines add.
    #[must_use]
    pub fn words(&self, name: &str, default: &str) -> Vec<String> {
        let mut text = default.to_owned();
        for Line { is_extra, value, .. } in self.lines.get(name).into_iter().flatten() {
            text = if *is_extra { format!("{text} {value}") } else { value.clone() };
        }
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// The substituters.
    #[must_use]
    pub fn substituters(&self) -> Vec<String> {
        self.words("substituters", "https://cache.nixos.org/")
    }

    /// The keys that are trusted; cache.nixos.org's own is left out where it is the default.
    #[must_use]
    pub fn trusted_keys(&self) -> Vec<String> {
        self.words("trusted-public-keys", "")
    }

    /// Whether `url` is among the substituters.
    #[must_use]
    pub fn has_substituter(&self, url: &str) -> bool {
        self.substituters().iter().any(|own| same_substituter(own, url))
    }
}

/// The name that a setting has today.
fn current_name(name: &str) -> &str {
    match name {
        "binary-caches" => "substituters",
        "trusted-binary-caches" => "trusted-substituters",
        "binary-cache-public-keys" => "trusted-public-keys",
        other => other,
    }
}

/// Whether two addresses are of one cache: parameters (`?priority=30`) and slashes at the end do
/// not count.
#[must_use]
pub fn same_substituter(one: &str, other: &str) -> bool {
    bare(one) == bare(other)
}

fn bare(url: &str) -> &str {
    url.split('?').next().unwrap_or_default().trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> NixSettings {
        let mut settings = NixSettings::default();
        settings.add_text(text, Path::new("/")).unwrap();
        settings
    }

    #[test]
    fn lines_are_read_as_nix_reads_them() {
        let settings = settings(
            "extra-substituters = http://a\nsubstituters = http://b  http://c # no \
             more\nextra-substituters = \
             http://d?priority=3\n#substituters = \
             http://e\nfallback=true\nnonsense\nbinary-cache-public-keys = k:1\n",
        );
        assert_eq!(settings.substituters(), ["http://b", "http://c", "http://d?priority=3"]);
        assert!(settings.has_substituter("http://d/") && !settings.has_substituter("http://a"));
        assert_eq!((settings.text("fallback"), settings.text("netrc-file")), (Some("true"), None));
        assert_eq!(settings.trusted_keys(), ["k:1"]);
        assert_eq!(NixSettings::default().substituters(), ["https://cache.nixos.org/"]);
    }

    #[test]
    fn included_files_count_where_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nix.conf");
        fs::write(folder.path().join("more"), "substituters = http://in\n").unwrap();
        fs::write(
            &file,
            "substituters = http://before\ninclude more\n!include none\nextra-substituters = \
            http://x\n",
        )
        .unwrap();
        let mut settings = NixSettings::default();
        settings.add_file(&file).unwrap();
        assert_eq!(settings.substituters(), ["http://in", "http://x"]);
        settings.add_file(&folder.path().join("absent")).unwrap();
        let more = folder.path().join("more");
        assert_eq!(settings.origin("substituters"), Some(&Origin::File(more.clone(), 1)));
        assert!(settings.has_lines_of(&more) && settings.has_lines_of(&file));

        let mut changed = NixSettings::with_file(&more, "# empty\n");
        changed.add_file(&file).unwrap();
        assert_eq!(changed.substituters(), ["http://before", "http://x"]);

        let circle = folder.path().join("circle");
        fs::write(&circle, "include circle\nfallback = true\n").unwrap();
        settings.add_file(&circle).unwrap();
        assert_eq!(settings.text("fallback"), Some("true"));
    }
}
