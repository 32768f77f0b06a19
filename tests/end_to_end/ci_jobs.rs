//! CI jobs: the action and the template of `dist/ci`, run as a runner runs them.
//!
//! The test plays the runner: it reads the action's file, fills in the inputs, and runs each step's
//! shell with the variables and the files that GitHub documents.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use snowbank_harness::{
    Client, NixStore, Output, Server, netns::NetworkNamespace, oracle::Oracle, process, trees,
};
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
    /// The network of a job that runs in a container.
    network: Option<NetworkNamespace>,
}

/// Runs a command without home folders. Folders below them that the job needs are given by name.
const WITHOUT_HOME: &str = r#"
mount --make-rprivate /
number=0 kept=$1; shift
for folder in $kept; do
    number=$((number + 1)); mkdir -p "keep/$number"; mount --bind "$folder" "keep/$number"
done
mount -t tmpfs tmpfs /root
mount -t tmpfs tmpfs /home
number=0
for folder in $kept; do
    number=$((number + 1)); mkdir -p "$folder"; mount --bind "keep/$number" "$folder"
done
exec env -u HOME -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME "$@"
"#;

impl Runner {
    fn new(variables: &[(&str, &str)]) -> Self {
        let store = NixStore::new();
        let client = Client::new(&store);
        fs::create_dir(client.home().join("bin")).unwrap();
        let link = client.home().join("bin/snowbank");
        std::os::unix::fs::symlink(process::binary("snowbank"), link).unwrap();
        let mut runner = Self { store, client, variables: BTreeMap::new(), network: None };
        for (name, value) in variables {
            runner.set(name, value);
        }
        runner
    }

    fn set(&mut self, name: &str, value: &str) {
        let _ = self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Has the job run in a container: without home folders, and on a network from which only the
    /// server is reached. Gives whether this process may make one.
    fn enter_container(&mut self, server: SocketAddr) -> bool {
        self.network = NetworkNamespace::with(server);
        self.network.is_some()
    }

    /// The server's address, as the job has to call it.
    fn server_url(&self, server: &Server) -> String {
        self.network.as_ref().map_or_else(|| server.url(), NetworkNamespace::url)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.client.home().join(name)
    }

    /// Runs a script of the job with the shell that CI services use.
    fn shell(&self, script: &str) -> Output {
        // The client's own command has the environment of its store.
        let like = self.client.command(&[]);
        let mut command = match &self.network {
            None => Command::new("bash"),
            Some(network) => {
                let mut command = Command::new("nsenter");
                let network = format!("--net={}", network.file());
                command.args([&network, "unshare", "--mount", "sh", "-ec", WITHOUT_HOME, "sh"]);
                let program = process::binary("snowbank");
                let kept = [repository("").canonicalize().unwrap(), program.with_file_name("")];
                command.arg(kept.map(|folder| folder.display().to_string()).join(" ")).arg("bash");
                command
            }
        };
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
