//! A storage that is set wrongly is refused at the start, with what is wrong and what to do.

use std::time::{Duration, Instant};

use snowbank_harness::{
    Scratch, Server, Site, process,
    s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY},
    server::ServerOptions,
    site::make_server_key,
};

const LIMIT: Duration = Duration::from_secs(90);

/// Starts a server that cannot; every one of `words` is said, and no secret.
#[track_caller]
fn assert_refuses(options: ServerOptions, words: &[&str]) {
    let started = Instant::now();
    let output = options.start_in_vain(LIMIT);
    eprintln!("after {:?}: {}", started.elapsed(), output.stderr.trim());
    assert!(!output.status.success(), "{output}");
    for word in words {
        assert!(output.stderr.contains(word), "`{word}` is not said: {output}");
    }
    assert!(!output.said().contains(SECRET_ACCESS_KEY), "a secret is said: {output}");
}

/// A server on a site, with one key of `[storage]` changed, that gives up soon.
fn with(site: &std::sync::Arc<Site>, key: &str, value: &str) -> ServerOptions {
    let options = Server::options()
        .on(site)
        .storage("retry-for", "\"2s\"")
        .storage("request-timeout", "\"2s\"");
    options.storage(key, value)
}

#[test]
fn a_wrong_secret() {
    let site = Site::start();
    assert_refuses(
        with(&site, "secret-access-key", "\"wrong\""),
        &["403", "SignatureDoesNotMatch", "access key"],
    );
}

#[test]
fn a_bucket_that_is_not_there() {
    let site = Site::start();
    assert_refuses(
        with(&site, "bucket", "\"nowhere\""),
        &["NoSuchBucket", "nowhere", "Create the bucket"],
    );
}

#[test]
fn an_endpoint_where_nobody_listens() {
    let site = Site::start();
    let address = process::own_address().to_string();
    assert_refuses(
        with(&site, "endpoint", &format!("\"http://{address}\"")),
        &[&address, "endpoint"],
    );
}

#[test]
fn an_endpoint_whose_name_does_not_resolve() {
    let site = Site::start();
    assert_refuses(
        with(&site, "endpoint", "\"http://storage.invalid\""),
        &["storage.invalid", "resolve"],
    );
}

#[test]
fn https_to_a_port_that_speaks_http() {
    let site = Site::start();
    let address = site.s3_address().to_string();
    assert_refuses(
        with(&site, "endpoint", &format!("\"https://{address}\"")),
        &[&address, "https"],
    );
}

#[test]
fn no_credentials_at_all_are_missed_without_a_long_wait() {
    let site = Site::start();
    let options = with(&site, "access-key-id", "").storage("secret-access-key", "");
    let started = Instant::now();
    assert_refuses(
        options,
        &["credentials", "access-key-id", "AWS_ACCESS_KEY_ID", "profile", "instance-metadata"],
    );
    // A wait for an instance's metadata service would take longer. An idle machine needs a tenth of
    // a second.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn credentials_from_the_environment_serve() {
    let site = Site::start();
    let server = with(&site, "access-key-id", "")
        .storage("secret-access-key", "")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .replicas(1)
        .start();
    assert!(server.replicas()[0].is_ready());
}

#[test]
fn a_bucket_that_belongs_to_another_instance() {
    let site = Site::start();
    let server = Server::options().on(&site).replicas(1).start();
    assert_refuses(
        Server::options().on(&site).database("second"),
        &["belongs to Snowbank instance"],
    );
    // Beside it under another prefix is room.
    let other = Server::options()
        .on(&site)
        .database("third")
        .storage("prefix", "\"third\"")
        .replicas(1)
        .start();
    assert!(server.replicas()[0].is_ready() && other.replicas()[0].is_ready());
}

#[test]
fn a_first_start_that_fails_leaves_a_shared_database_to_one_from_another_folder() {
    let (site, keys) = (Site::start(), Scratch::new("keys"));
    let other = Server::options().on(&site).database("other").replicas(1).start();
    // Each host has a server key of its own, as long as nobody has started.
    let host = |name: &str, options: ServerOptions| {
        make_server_key(&keys.join(name));
        options
            .database("shared")
            .env("SNOWBANKD_SERVER_KEY_FILE", keys.join(name).to_str().unwrap())
    };
    let without_keys = with(&site, "access-key-id", "").storage("secret-access-key", "");
    assert_refuses(host("a", without_keys), &["credentials"]);
    assert_refuses(
        host("b", with(&site, "secret-access-key", "\"wrong\"")),
        &["SignatureDoesNotMatch"],
    );
    assert_refuses(
        host("c", Server::options().on(&site)),
        &["belongs to Snowbank instance", "an empty place"],
    );
    let options = Server::options().on(&site).storage("prefix", "\"shared\"").replicas(1);
    let server = host("d", options).start();
    assert!(server.replicas()[0].is_ready() && other.replicas()[0].is_ready());
    // From now on there is one key for all.
    let late = Server::options().on(&site).storage("prefix", "\"shared\"");
    assert_refuses(host("e", late), &["another server key"]);
}

#[test]
fn a_metadata_service_that_was_asked_in_vain_is_said_to_be_unreachable() {
    let site = Site::start();
    let nobody = process::own_address();
    let options = with(&site, "access-key-id", "")
        .storage("secret-access-key", "")
        .storage("instance-metadata", "true")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("http://{nobody}"));
    let started = Instant::now();
    let output = options.start_in_vain(LIMIT);
    eprintln!("after {:?}: {}", started.elapsed(), output.stderr.trim());
    assert!(
        !output.status.success() && output.stderr.contains("the instance's metadata"),
        "{output}"
    );
    assert!(!output.stderr.contains("not asked"), "it was asked: {output}");
}
