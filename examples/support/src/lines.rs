//! Lines that a product prints at start, to be pasted into a shell.

/// A line for a shell, and the expected status.
#[derive(Debug, Clone)]
pub struct Line {
    /// The purpose of the line.
    pub what: &'static str,
    /// The expected status.
    pub status: u16,
    /// The line.
    pub line: String,
}

/// Response bodies do not end with a newline.
const NEWLINE: &str = "; echo";

impl Line {
    /// Creates a line for a request that is answered with this status.
    #[must_use]
    pub fn new(status: u16, what: &'static str, line: impl Into<String>) -> Self {
        let line = format!("{}{NEWLINE}", line.into());
        Self { what, status, line }
    }

    /// Also stores members of the response in shell variables.
    #[must_use]
    pub fn keeping(self, kept: &[(&str, &str)]) -> Self {
        let keep = |(member, variable): &(&str, &str)| {
            format!(r#"; {variable}=$(sed -n 's/.*"{member}":"\([^"]*\)".*/\1/p' <<< "$ANSWER")"#)
        };
        let kept: String = kept.iter().map(keep).collect();
        let asked = self.line.trim_end_matches(NEWLINE);
        let line = format!(r#"ANSWER=$({asked}); echo "$ANSWER"{kept}"#);
        Self { line, ..self }
    }
}

/// Prints the lines, each below its purpose, and explains how to stop.
#[expect(clippy::print_stdout, reason = "it is what a person is to see")]
pub fn print(heading: &str, lines: &[Line]) {
    println!("{heading}\nPaste these lines into a shell, one after the other:\n");
    for Line { what, status, line } in lines {
        println!("# {status}: {what}\n{line}");
    }
    println!("\nCtrl-C stops it.");
}
