//! What a push shows in the log and on the page of a job.

use super::*;

#[test]
fn a_push_folds_its_lines_and_adds_its_numbers_to_the_page() {
    let server = Server::start();
    let store = NixStore::new();
    let client = Client::of(&server, &store);
    let path = trees::add_tiny(&store, 1, "logged").remove(0);
    let page = client.home().join("page.md");
    let push = |variables: &[(&str, &str)], options: &[&str]| {
        let mut command = client.command(&["push", "main", &path]);
        command.args(options).envs(variables.iter().copied());
        process::run(command).success()
    };
    let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", page.to_str().unwrap())];
    let output = push(&github, &["--json"]);
    assert!(output.stderr.contains("::group::Push to main at http://127."), "{output}");
    assert!(output.stderr.contains("\n::endgroup::\n"), "{output}");
    assert!(!output.stdout.contains("::"), "standard output is for programs: {output}");
    let _ = push(&github, &[]);
    let text = fs::read_to_string(&page).unwrap();
    assert_eq!(text.matches("### Pushed to main at ").count(), 2, "{text}");
    assert!(
        text.contains("| uploaded | 1 |") && text.contains("| already present | 1 |"),
        "{text}"
    );

    let output = push(&[("GITLAB_CI", "true")], &[]);
    assert!(output.stderr.contains("\x1b[0Ksection_start:"), "{output}");
    for variables in [&[][..], &[("GITHUB_ACTIONS", "true")]] {
        let output = push(variables, &["--quiet"]);
        assert_eq!(output.said(), "");
    }
    // A page that cannot be written fails no push.
    let output = push(&[github[0], ("GITHUB_STEP_SUMMARY", "/absent/page.md")], &[]);
    assert!(output.stderr.contains("the summary cannot be written"), "{output}");
}
