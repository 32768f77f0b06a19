//! `[auth]`: keys in files, issuers, and what they must not leave open.

use super::*;

/// An entry, with `(from, to)` replaced in it.
fn oidc(from: &str, to: &str) -> String {
    let text = r#"
[[auth.oidc]]
issuer = "https://gitlab.example.org"
audience = "https://cache.example.org"
[auth.oidc.claims]
project_path = "team/*"
ref = ["main", "v*"]
[auth.oidc.permissions]
"app-*" = ["pull", "push"]
"#;
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

#[test]
fn an_issuer_has_claims_to_match_and_permissions() {
    let text = oidc("", "")
        + &oidc("[\"main\", \"v*\"]", "\"*\"").replace("https://gitlab.e", "http://[::1]:8000/e");
    let config = load(&text).1.unwrap().auth;
    let [first, second] = &config.oidc[..] else { panic!("{config:?}") };
    assert_eq!(
        (first.issuer.as_str(), first.name.as_str()),
        ("https://gitlab.example.org", "gitlab.example.org")
    );
    assert_eq!(first.claims["ref"], ["main", "v*"]);
    assert_eq!(first.claims["project_path"], ["team/*"]);
    assert_eq!(first.permissions[0].permissions, ["pull", "push"]);
    assert!(
        first.permissions[0].place.ends_with("snowbankd.toml:9"),
        "{}",
        first.permissions[0].place
    );
    assert_eq!(second.claims["ref"], ["*"]);
}

#[test]
fn what_is_wrong_with_an_issuer_is_named_with_its_line() {
    for (from, to, parts) in [
        (
            "https://gitlab.example.org",
            "http://gitlab.example.org",
            &[":3: ", "`auth.oidc.issuer`", "https"][..],
        ),
        (
            "https://gitlab.example.org",
            "gitlab.example.org",
            &[":3: ", "`auth.oidc.issuer`", "https"],
        ),
        ("https://gitlab.example.org", "https://u:p@gitlab.example.org", &[":3: ", "without user"]),
        ("issuer = ", "isuer = ", &[":3: ", "unknown key `isuer`", "`issuer`", "`permissions`"]),
        ("issuer = \"https://gitlab.example.org\"\n", "", &["missing field `issuer`"]),
        ("\"https://cache.example.org\"", "\" \"", &[":4: ", "`auth.oidc.audience`", "is empty"]),
        ("\"https://cache.example.org\"", "7", &[":4: ", "`auth.oidc.audience`", "string"]),
        (
            "[auth.oidc.claims]",
            "name = \"a:b\"\n[auth.oidc.claims]",
            &[":5: ", "`auth.oidc.name`", "A-Z"],
        ),
        (
            "project_path = \"team/*\"",
            "project_path = 7",
            &[":6: ", "project_path", "a list of patterns"],
        ),
        ("[\"main\", \"v*\"]", "[]", &[":7: ", "`auth.oidc.claims.ref`", "pattern"]),
        ("[\"main\", \"v*\"]", "[\"\"]", &[":7: ", "`auth.oidc.claims.ref`", "pattern"]),
        (
            "\"app-*\" = [\"pull\", \"push\"]",
            "\"a/b\" = [\"pull\"]",
            &[":9: ", "`auth.oidc.permissions`", "`a/b`"],
        ),
        ("[\"pull\", \"push\"]", "[]", &[":9: ", "`auth.oidc.permissions`", "`app-*`"]),
        ("[\"pull\", \"push\"]", "\"pull\"", &[":9: ", "permissions"]),
        ("\"app-*\" = [\"pull\", \"push\"]\n", "", &[":3: ", "`auth.oidc.permissions`", "allow"]),
    ] {
        assert_names(&oidc(from, to), parts);
    }
}

#[test]
fn an_entry_that_lets_everyone_in_is_refused() {
    let rules = "project_path = \"team/*\"\nref = [\"main\", \"v*\"]\n";
    for open in
        ["", "ref = \"*\"\n", "ref = [\"main\", \"*\"]\n", "ref = \"**\"\nproject_path = \"*\"\n"]
    {
        assert_names(
            &oidc(rules, open),
            &[":3: ", "`auth.oidc.claims`", "everybody", "repository_owner"],
        );
    }
}

#[test]
fn a_name_belongs_to_one_issuer() {
    let other = oidc("https://gitlab.example.org", "https://other.example.org");
    let named =
        |text: &str| text.replace("[auth.oidc.claims]", "name = \"forge\"\n[auth.oidc.claims]");
    assert_names(&(named(&oidc("", "")) + &named(&other)), &["`auth.oidc.name`", "`forge`"]);
    assert_names(&(oidc("", "") + &named(&oidc("", ""))), &["`auth.oidc.name`", "`forge`"]);
    load(&(oidc("", "") + &other)).1.unwrap();
    load(&(named(&oidc("", "")) + &named(&oidc("", "")))).1.unwrap();
}

#[test]
fn a_token_key_has_an_id_an_algorithm_and_a_file_beside_the_config_file() {
    let text = "[[auth.token-key]]\nkid = \"ci-1\"\nalgorithm = \"EdDSA\"\nfile = \"ci.pem\"\n";
    let (folder, config) = load(text);
    let expected = TokenKeyFile {
        kid: "ci-1".to_owned(),
        algorithm: TokenAlgorithm::EdDsa,
        file: folder.path().join("ci.pem"),
    };
    assert_eq!(config.unwrap().auth.token_keys, [expected]);
    let with = |from: &str, to: &str| text.replace(from, to);
    assert_names(
        &with("EdDSA", "ES512"),
        &[":3: ", "`auth.token-key.algorithm`", "`ES512`", "HS256", "EdDSA"],
    );
    assert_names(&with("EdDSA", "none"), &[":3: ", "`auth.token-key.algorithm`", "`none`"]);
    assert_names(&with("ci-1", "ci 1"), &[":2: ", "`auth.token-key.kid`", "`ci 1`", "A-Z"]);
    assert_names(&with("ci-1", ""), &[":2: ", "`auth.token-key.kid`"]);
    assert_names(&with("file = \"ci.pem\"\n", ""), &["missing field `file`"]);
    assert_names(&format!("{text}{text}"), &[":6: ", "`auth.token-key.kid`", "another"]);
    assert_names("[auth]\ntoken-keys = []\n", &[":2: ", "`token-keys`", "`token-key`", "`oidc`"]);
}

#[test]
fn a_legacy_key_has_a_name_an_algorithm_of_attic_and_a_file() {
    let text = "[[auth.legacy-key]]\nname = \"attic\"\nalgorithm = \"HS256\"\nfile = \"secret\"\n";
    let (folder, config) = load(&format!("{text}issuer = \"i\"\naudiences = [\"a\"]\n"));
    let expected = LegacyKeyFile {
        name: "attic".to_owned(),
        algorithm: TokenAlgorithm::Hs256,
        file: folder.path().join("secret"),
        issuer: Some("i".to_owned()),
        audiences: vec!["a".to_owned()],
    };
    assert_eq!(config.unwrap().auth.legacy_keys, [expected]);
    let with = |from: &str, to: &str| text.replace(from, to);
    for other in ["EdDSA", "ES256"] {
        assert_names(&with("HS256", other), &[":3: ", "`auth.legacy-key.algorithm`", "RS256"]);
    }
    assert_names(&with("\"attic\"", "\"a b\""), &[":2: ", "`auth.legacy-key.name`", "A-Z"]);
    assert_names(&format!("{text}{text}"), &[":6: ", "`auth.legacy-key.name`", "another"]);
    assert_names(&with("file = \"secret\"\n", ""), &["missing field `file`"]);
    assert_names(&with("file", "flie"), &["unknown key `flie`"]);
}

#[test]
fn a_push_session_lasts_for_six_hours_unless_said_otherwise() {
    let seconds = |text: &str| load(text).1.unwrap().auth.push_session_seconds();
    let value = |text: &str| format!("[auth]\npush-session = \"{text}\"\n");
    assert_eq!(seconds(""), Some(6 * 3_600));
    assert_eq!(seconds("[auth]\n"), Some(6 * 3_600));
    for (text, expected) in [("90m", Some(5_400)), ("1s", Some(1)), ("7d", Some(604_800))] {
        assert_eq!(seconds(&value(text)), expected, "{text}");
    }
    for off in ["off", "0", "0s"] {
        assert_eq!(seconds(&value(off)), None, "{off}");
    }
    for wrong in ["8d", "never", "-1h", "6", ""] {
        assert_names(&value(wrong), &[":2: ", "`auth.push-session`", "off"]);
    }
}

#[test]
fn the_documented_keys_are_keys() {
    let text = include_str!("../../../../config.example.toml");
    let section = &text[text.find("# [[auth.token-key]]").unwrap()..];
    let end = section.find("\n[log]").unwrap();
    let line = |line: &str| {
        line.strip_prefix("# ")
            .filter(|rest| rest.contains(" = ") || rest.starts_with('['))
            .map(str::to_owned)
    };
    let keys: Vec<String> = section[..end].lines().filter_map(line).collect();
    let config = load(&keys.join("\n")).1.unwrap().auth;
    let found = (config.token_keys.len(), config.legacy_keys.len(), config.oidc.len());
    assert_eq!(found, (1, 1, 1), "{keys:?}");
    assert!(config.oidc[0].name.starts_with("github"), "{config:?}");
}
