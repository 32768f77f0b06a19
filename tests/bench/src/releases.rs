//! The corpus: two neighbouring releases each of some `PyPI` wheels and Debian packages, as
//! unpacked trees.
//!
//! Fetched once with pip and apt-get, then used from the cache folder without a network. A pair
//! appears there whole or not at all. Python files are compiled as Nix's builders do it: each
//! `.pyc` holds the path where it will be installed, with [`plant::OWN`] as its hash. `PyPI`
//! releases are fixed; of a Debian package it is the two newest that the configured archives offer,
//! and the file `versions` beside the trees says which.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::plant;

const PYPI: &[(&str, &str, &str)] = &[
    ("Django", "5.1.3", "5.1.4"),
    ("SQLAlchemy", "2.0.38", "2.0.39"),
    ("botocore", "1.35.60", "1.35.61"),
    ("matplotlib", "3.10.0", "3.10.1"),
    ("numpy", "2.2.5", "2.2.6"),
    ("pandas", "2.2.2", "2.2.3"),
    ("ruff", "0.8.1", "0.8.2"),
];

const DEBIAN: &[&str] = &[
    "git",
    "libnode108",
    "libpython3.11-stdlib",
    "linux-libc-dev",
    "mariadb-server-core",
    "perl-modules-5.36",
    "php8.2-cli",
    "postgresql-15",
];

/// Two releases of one piece of software.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The package's name.
    pub name: String,
    /// The older release.
    pub old: Release,
    /// The newer one.
    pub new: Release,
}

/// One unpacked release.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its version, as its registry writes it.
    pub version: String,
    /// Its tree.
    pub root: PathBuf,
    /// `name-version`, as it stands in its store path.
    pub store_name: String,
}

/// The folder that the corpus is kept in: snowbank/corpus in the XDG cache home.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn default_folder() -> Result<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_CACHE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("snowbank/corpus"))
        .context("neither XDG_CACHE_HOME nor HOME is set, so that there is no place for the corpus")
}

/// All pairs, in a fixed order; those not in `folder` yet are fetched.
///
/// # Errors
/// When a command is missing or fails, which is named with what it was to do.
pub fn load(folder: &Path) -> Result<Vec<Pair>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut pairs = Vec::new();
    for &(name, old, new) in PYPI {
        let wanted = || Ok([old.to_owned(), new.to_owned()]);
        pairs.push(pair(folder, name, wanted, install_wheel)?);
    }
    for &name in DEBIAN {
        pairs.push(pair(folder, name, || debian_versions(name), unpack_deb)?);
    }
    Ok(pairs)
}

fn pair(
    folder: &Path,
    name: &str,
    wanted: impl FnOnce() -> Result<[String; 2]>,
    fetch: impl Fn(&str, &str, &Path) -> Result<()>,
) -> Result<Pair> {
    let home = folder.join(name);
    if !home.exists() {
        let versions = wanted()?;
        eprintln!("fetching {name} {} and {}", versions[0], versions[1]);
        let partial = folder.join(format!(".{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        for (side, version) in ["old", "new"].iter().zip(&versions) {
            let root = partial.join(side);
            fs::create_dir_all(&root)?;
            fetch(name, version, &root)
                .with_context(|| format!("cannot fetch {name} {version}"))?;
            compile_python(&root, &store_name(name, version))?;
        }
        fs::write(partial.join("versions"), versions.join("\n"))?;
        fs::rename(&partial, &home)?;
    }
    let versions = fs::read_to_string(home.join("versions"))
        .with_context(|| format!("{} is no pair of releases: remove it", home.display()))?;
    let Some((old, new)) = versions.trim_end().split_once('\n') else {
        bail!("{} does not name two versions: remove that folder", home.join("versions").display());
    };
    let release = |side: &str, version: &str| Release {
        version: version.to_owned(),
        root: home.join(side),
        store_name: store_name(name, version),
    };
    Ok(Pair { name: name.to_owned(), old: release("old", old), new: release("new", new) })
}

/// The package's name and version as a store path's name can hold them.
fn store_name(name: &str, version: &str) -> String {
    let version: String = version
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "+-._".contains(char) { char } else { '_' })
        .collect();
    format!("{}-{version}", name.to_ascii_lowercase())
}

fn install_wheel(name: &str, version: &str, root: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--only-binary",
        ":all:",
    ])
    .arg("--target")
    .arg(root)
    .arg(format!("{name}=={version}"));
    run(&mut pip).map(drop)
}

/// The two newest versions, older first.
fn debian_versions(name: &str) -> Result<[String; 2]> {
    let listing = run(Command::new("apt-cache").args(["madison", name]))?;
    let mut versions: Vec<&str> =
        listing.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim).collect();
    versions.dedup();
    let [new, old, ..] = versions[..] else {
        bail!("the configured archives offer no two versions of {name} (run `apt-get update`?)");
    };
    Ok([old.to_owned(), new.to_owned()])
}

fn unpack_deb(name: &str, version: &str, root: &Path) -> Result<()> {
    let download = tempfile::tempdir()?;
    run(Command::new("apt-get")
        .args(["download", "-qq", &format!("{name}={version}")])
        .current_dir(download.path()))?;
    let deb = fs::read_dir(download.path())?.next().context("apt-get download left no file")??;
    run(Command::new("dpkg-deb").arg("-x").arg(deb.path()).arg(root)).map(drop)
}

fn compile_python(root: &Path, store_name: &str) -> Result<()> {
    let mut compile = Command::new("python3");
    compile
        .args(["-m", "compileall", "-qq", "--invalidation-mode", "checked-hash", "-s"])
        .arg(root)
        .arg("-p")
        .arg(plant::own_path(store_name))
        .arg(root)
        // Otherwise constants that are sets come in another order each time.
        .env("PYTHONHASHSEED", "0");
    // It fails for each file in another dialect of Python, which stays uncompiled in a real build
    // too.
    compile.output().context("cannot run python3")?;
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().with_context(|| format!("cannot run {program}: is it installed?"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8(output.stdout)?)
}
