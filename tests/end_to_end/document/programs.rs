//! A folder with programs for the commands of a page, which are scripts.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

/// A folder for the `PATH` of a shell.
#[derive(Debug)]
pub struct Programs {
    /// Where it is.
    pub folder: PathBuf,
}

impl Programs {
    /// Makes an empty one.
    pub fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    /// Adds a script of `/bin/sh`, or replaces it.
    pub fn add(&self, name: &str, script: &str) {
        let file = self.folder.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Adds a script that runs this command, in its environment, with all arguments of the script.
    pub fn add_command(&self, name: &str, command: &Command) {
        let all = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = all.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let variables: String = command
            .get_envs()
            .filter_map(|(name, value)| {
                Some(format!("export {}='{}'\n", name.to_str()?, value?.to_str()?))
            })
            .collect();
        self.add(name, &format!("{variables}exec {} \"$@\"", words.join(" ")));
    }
}
