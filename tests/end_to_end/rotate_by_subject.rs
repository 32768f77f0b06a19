//! A token is replaced by its subject only where that names one token.

use snowbank_harness::{Api, Client, NixStore, Server};

#[test]
fn a_subject_stands_for_its_only_valid_token() {
    let (server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let create = |subject: &str| {
        let _ = client.run(&["token", "create", "--sub", subject, "--pull", "*"]).success();
    };
    for subject in ["ci", "two", "two"] {
        create(subject);
    }
    let new = client.run(&["token", "rotate", "--subject", "ci"]).success().stdout;
    let whoami = Api::new(&server.url(), Some(new.trim())).get("/api/v1/whoami").text();
    assert!(whoami.contains("\"ci\""), "{whoami}");
    // The one that was replaced is valid for a day more, and does not count.
    let newer = server.command(&["token", "rotate", "--subject", "ci"]).success().stdout;
    assert!(newer.trim().starts_with("ey") && newer != new);

    for output in [
        client.run(&["token", "rotate", "--subject", "two"]).ended_with(2),
        server.command(&["token", "rotate", "--subject", "two"]),
    ] {
        assert!(!output.status.success() && output.stderr.contains("2 valid tokens"), "{output}");
    }
    let none = client.run(&["token", "rotate", "--subject", "nobody"]).ended_with(15);
    assert!(none.stderr.contains("no valid token of the subject `nobody`"), "{none}");
    let _ = client.run(&["token", "rotate"]).ended_with(2);
    let _ = client.run(&["token", "rotate", "4f2a", "--subject", "ci"]).ended_with(2);
}
