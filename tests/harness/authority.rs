//! A certificate authority of a test's own, and the certificates that it signs, all made by the
//! `openssl` program.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Certificate, Identity, blocking};

use crate::{Scratch, process};

/// What the requests of certificates have in common, with the extensions of each kind.
const CONFIG: &str = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = @name@\n\
    [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
    subjectKeyIdentifier = hash\n";

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file, mode 0600.
    pub key: PathBuf,
}

impl Pair {
    /// Puts this pair into the files of another, one after the other, each by renaming.
    pub fn replace(&self, other: &Self) {
        for (new, old) in [(&self.certificate, &other.certificate), (&self.key, &other.key)] {
            let beside = old.with_extension("new");
            fs::copy(new, &beside)
                .and_then(|_| fs::rename(&beside, old))
                .unwrap_or_else(|e| panic!("{}: {e}", old.display()));
        }
    }
}

/// An authority.
#[derive(Debug)]
pub struct Authority {
    own: Pair,
    scratch: Scratch,
}

impl Authority {
    /// One that nobody knows.
    #[must_use]
    pub fn new() -> Self {
        let scratch = Scratch::new("authority");
        // Each has a name of its own, as real ones do.
        let name = scratch.path().file_name().unwrap_or_default().to_string_lossy();
        process::write(&scratch.join("config"), CONFIG.replace("@name@", &name));
        let own = pair(scratch.path(), "authority");
        let authority = Self { own, scratch };
        authority.make_key(&authority.own.key, "P-256");
        authority.openssl(&[
            "req",
            "-x509",
            "-new",
            "-config",
            "config",
            "-extensions",
            "authority",
            "-days",
            "2",
            "-key",
            &text(&authority.own.key),
            "-out",
            &text(&authority.own.certificate),
        ]);
        authority
    }

    /// The file of its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.own.certificate
    }

    /// Signs a certificate for the server at `host`, an IP address, and puts it into `folder`.
    #[must_use]
    pub fn issue_server(&self, folder: &Path, name: &str, host: &str) -> Pair {
        let names = format!("IP:{host}, DNS:cache.example.org");
        let extensions = format!("subjectAltName = {names}\nextendedKeyUsage = serverAuth\n");
        self.issue(folder, name, &extensions, 2)
    }

    /// Signs a certificate for a client, and puts it into `folder`.
    #[must_use]
    pub fn issue_client(&self, folder: &Path, name: &str) -> Pair {
        self.issue(folder, name, "extendedKeyUsage = clientAuth\n", 2)
    }

    /// As [`Self::issue_client`], with an end that is over.
    #[must_use]
    pub fn issue_expired_client(&self, folder: &Path, name: &str) -> Pair {
        self.issue(folder, name, "extendedKeyUsage = clientAuth\n", -1)
    }

    fn issue(&self, folder: &Path, name: &str, extensions: &str, days: i32) -> Pair {
        let pair = pair(folder, name);
        self.make_key(&pair.key, "P-256");
        let (request, extension_file) =
            (folder.join(format!("{name}.csr")), folder.join(format!("{name}.ext")));
        process::write(&extension_file, extensions);
        let key = text(&pair.key);
        self.openssl(&["req", "-new", "-config", "config", "-key", &key, "-out", &text(&request)]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &text(&request),
            "-CA",
            &text(&self.own.certificate),
            "-CAkey",
            &text(&self.own.key),
            "-CAcreateserial",
            "-days",
            &days.to_string(),
            "-extfile",
            &text(&extension_file),
            "-out",
            &text(&pair.certificate),
        ]);
        pair
    }

    fn make_key(&self, file: &Path, curve: &str) {
        let curve = format!("ec_paramgen_curve:{curve}");
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", &curve, "-out", &text(file)]);
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }

    /// Runs `openssl ARGS` in the authority's folder.
    pub fn openssl(&self, args: &[&str]) {
        let mut command = process::command("openssl", self.scratch.path());
        command.args(args);
        process::run(command).succeeds();
    }

    /// An HTTP client that trusts this authority alone, and shows `own`.
    pub fn http(&self, own: Option<&Pair>) -> blocking::ClientBuilder {
        let read =
            |file: &Path| fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let bad = |e: reqwest::Error| -> ! { panic!("the authority's own files: {e}") };
        let trusted = Certificate::from_pem(&read(self.certificate())).unwrap_or_else(|e| bad(e));
        let builder = blocking::Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .tls_certs_only([trusted]);
        let Some(own) = own else { return builder };
        let pem = [read(&own.certificate), read(&own.key)].concat();
        builder.identity(Identity::from_pem(&pem).unwrap_or_else(|e| bad(e)))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn pair(folder: &Path, name: &str) -> Pair {
    Pair {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
