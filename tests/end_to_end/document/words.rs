//! The words of a line of a shell.

/// The commands of a line, each as words; comments and redirections are left out.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let (mut quote, mut is_target) = (None, false);
    for c in line.chars().chain(['\n']) {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\n' | '|' | ';' | '&' | '<' | '>' | '(' | ')') => {
                words.extend(word.take().filter(|_| !std::mem::take(&mut is_target)));
                is_target |= matches!(c, '<' | '>');
                if matches!(c, '\n' | '|' | ';' | '&' | '(' | ')') {
                    all.push(std::mem::take(&mut words));
                }
            }
            (_, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.filter(|_| !is_target));
    all.push(words);
    all
}

/// The line without its comment.
pub fn without_comment(line: &str) -> &str {
    let (mut quote, mut is_between) = (None, true);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if is_between => return line[..at].trim_end(),
            _ => {}
        }
        is_between = c == ' ';
    }
    line.trim_end()
}

#[test]
fn comments_end_a_line_and_quotes_hide_them() {
    let line = "a 'b # c' d#e   # f 'g'";
    assert_eq!(without_comment(line), "a 'b # c' d#e");
    assert_eq!(commands(line), [vec!["a", "b # c", "d#e"]]);
    assert_eq!(without_comment("# all of it"), "");
}
