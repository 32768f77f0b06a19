//! CI jobs: the action and the template of `dist/ci`, run as a runner runs them.
//!
//! The test plays the runner: it reads the action's file, fills in the inputs, and runs each step's
//! shell with the variables and the files that GitHub documents.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use snowbank_harness::{Client, NixStore, Output, Server, oracle::Oracle, process, trees};
use yaml_rust2::{Yaml, YamlLoader};

mod github;
mod gitlab;
mod push_log;

/// A file or folder of the repository.
fn repository(name: &str) -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..").join(name)
}

/// The documents of a YAML file of the repository.
fn yaml(name: &str) -> Vec<Yaml> {
    let text = fs::read_to_string(repository(name)).unwrap();
    YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A machine with a Nix store of its own on which a job runs.
struct Runner {
    store: NixStore,
    client: Client,
    variables: BTreeMap<String, String>,
}

impl Runner {
    fn new(variables: &[(&str, &str)]) -> Self {
        let store = NixStore::new();
        let client = Client::new(&store);
        fs::create_dir(client.home().join("bin")).unwrap();
        let link = client.home().join("bin/snowbank");
        std::os::unix::fs::symlink(process::binary("snowbank"), link).unwrap();
        let mut runner = Self { store, client, variables: BTreeMap::new() };
        for (name, value) in variables {
            runner.set(name, value);
        }
        runner
    }

    fn set(&mut self, name: &str, value: &str) {
        let _ = self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.client.home().join(name)
    }

    /// Runs a script of the job with the shell that CI services use.
    fn shell(&self, script: &str) -> Output {
        // The client's own command has the environment of its store.
        let like = self.client.command(&[]);
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).env_clear();
        for (name, value) in like.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let path = like.get_envs().find_map(|(name, value)| (name == "PATH").then_some(value));
        let path = path.flatten().unwrap_or_default().to_string_lossy().into_owned();
        command.env("PATH", format!("{}:{path}", self.file("bin").display()));
        command.envs(&self.variables).current_dir(self.client.home());
        process::run(command)
    }
}
