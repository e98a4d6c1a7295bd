//! Lines that a product prints at start, to be pasted into a shell.

/// Prints a script, with the value of each `{name}` in its place, and explains how to stop.
///
/// Above each line of the script is a comment with the expected status and the purpose. A line that ends with
/// ` => id KEY_ID` also stores that member of the response in a shell variable, and `{json}` is the header of a
/// JSON body.
#[expect(clippy::print_stdout, reason = "it is what a person is to see")]
pub fn print(heading: &str, script: &str, values: &[(&str, &str)]) {
    println!("{heading}\nPaste these lines into a shell, one after the other:\n");
    for line in script.lines() {
        let line = values.iter().fold(line.to_owned(), |line, (name, value)| {
            line.replace(&format!("{{{name}}}"), value)
        });
        println!("{}", runnable(&line.replace("{json}", JSON)));
    }
    println!("\nCtrl-C stops it.");
}

const JSON: &str = "-H 'Content-Type: application/json'";

/// Returns a line of the script as the shell runs it. Responses do not end with a newline, so it adds one.
fn runnable(line: &str) -> String {
    if line.is_empty() || line.starts_with('#') {
        return line.to_owned();
    }
    let Some((request, kept)) = line.split_once(" => ") else {
        return format!("{line}; echo");
    };
    let keep = |pair: &str| {
        let (member, variable) = pair.split_once(' ').unwrap_or_default();
        format!(r#"; {variable}=$(sed -n 's/.*"{member}":"\([^"]*\)".*/\1/p' <<< "$ANSWER")"#)
    };
    let kept: String = kept.split(", ").map(keep).collect();
    format!(r#"ANSWER=$({request}); echo "$ANSWER"{kept}"#)
}
