//! Files that cannot be used are named at the start, each with its cause and the next step.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use snowbank_harness::{Authority, Scratch, Server, authority::Pair, process};

const LIMIT: Duration = Duration::from_secs(30);

/// Asserts that no server starts with these lines in `[tls]`, and that it says all of `parts`.
#[track_caller]
fn assert_refused(toml: &str, parts: &[&str]) {
    let config = format!("[tls]\n{toml}");
    let output = Server::options().config(&config).start_in_vain(LIMIT).ended_with(1);
    for part in parts {
        assert!(output.stderr.contains(part), "`{part}` is not said: {output}");
    }
    assert!(!output.said().contains("MIG"), "no key is shown: {output}");
}

fn keys(pair: &Pair) -> String {
    format!(
        "certificate-file = \"{}\"\nprivate-key-file = \"{}\"\n",
        pair.certificate.display(),
        pair.key.display()
    )
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn of_certificate_and_key() {
    let (authority, scratch) = (Authority::new(), Scratch::new("tls-files"));
    let issue = |name: &str| authority.issue_server(scratch.path(), name, "127.0.0.1");
    let (good, other) = (issue("good"), issue("other"));
    let with = |certificate: &Path, key: &Path| {
        keys(&Pair { certificate: certificate.to_owned(), key: key.to_owned() })
    };

    let missing = scratch.join("missing.pem");
    let (missing_text, key_text) = (text(&missing), text(&good.key));
    assert_refused(&with(&missing, &good.key), &[&missing_text, "cannot read the certificate"]);
    assert_refused(&with(&good.certificate, &missing), &[&missing_text, "readable for the user"]);

    let empty = scratch.join("empty.pem");
    process::write(&empty, "");
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).unwrap();
    assert_refused(&with(&empty, &good.key), &[&text(&empty), "no certificate in PEM"]);
    assert_refused(&with(&good.certificate, &empty), &[&text(&empty), "is empty"]);

    assert_refused(
        &with(&other.certificate, &good.key),
        &[&key_text, &text(&other.certificate), "is not that of the first certificate"],
    );
    // The two files in each other's place.
    assert_refused(&with(&good.key, &good.certificate), &[&key_text, "no certificate in PEM"]);

    let encrypted = scratch.join("encrypted.key");
    let args = ["-in", &key_text, "-aes256", "-passout", "pass:secret", "-out", &text(&encrypted)];
    authority.openssl(&[&["pkey"], &args[..]].concat());
    fs::set_permissions(&encrypted, fs::Permissions::from_mode(0o600)).unwrap();
    assert_refused(
        &with(&good.certificate, &encrypted),
        &[&text(&encrypted), "is encrypted", "openssl pkey"],
    );

    let garbled = scratch.join("garbled.key");
    let armor = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n-----END PRIVATE KEY-----\n";
    process::write(&garbled, armor);
    fs::set_permissions(&garbled, fs::Permissions::from_mode(0o600)).unwrap();
    assert_refused(&with(&good.certificate, &garbled), &[&text(&garbled), "cannot be used", "RSA"]);
    let garbled_certificate = scratch.join("garbled.pem");
    process::write(&garbled_certificate, armor.replace("PRIVATE KEY", "CERTIFICATE"));
    assert_refused(
        &with(&garbled_certificate, &good.key),
        &[&text(&garbled_certificate), "cannot be used"],
    );

    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_refused(&keys(&good), &[&key_text, "is open to others", "chmod 600"]);
}

#[test]
fn of_clients_authority_and_of_keys_that_lack_their_other_half() {
    let (authority, scratch) = (Authority::new(), Scratch::new("tls-files"));
    let pair = authority.issue_server(scratch.path(), "good", "127.0.0.1");
    let empty = scratch.join("empty.pem");
    process::write(&empty, "no certificate\n");
    let with_ca = format!("{}client-ca-file = \"{}\"\n", keys(&pair), empty.display());
    assert_refused(&with_ca, &[&text(&empty), "no certificate in PEM"]);

    let lines = keys(&pair);
    let (certificate, key) = lines.split_once('\n').unwrap();
    for (toml, parts) in [
        (
            certificate.to_owned(),
            ["config.toml:2: ", "`tls.certificate-file`", "`private-key-file`"],
        ),
        (key.to_owned(), ["config.toml:2: ", "`tls.private-key-file`", "`certificate-file`"]),
        (
            "client-ca-file = \"/ca.pem\"\n".to_owned(),
            ["config.toml:2: ", "`tls.client-ca-file`", "`certificate-file`"],
        ),
        (
            format!("{lines}client-certificates = \"optional\"\n"),
            ["config.toml:4: ", "`tls.client-certificates`", "`client-ca-file`"],
        ),
        (
            format!("{with_ca}client-certificates = \"maybe\"\n"),
            ["config.toml:5: ", "`maybe`", "`optional`"],
        ),
    ] {
        assert_refused(&toml, &parts);
    }
}
