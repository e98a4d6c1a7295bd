//! What a product prints at start, to be pasted into a shell.

/// One line for a shell, and what comes of it.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it does.
    pub what: &'static str,
    /// The status that is answered.
    pub status: u16,
    /// The line.
    pub line: String,
}

/// Bodies do not end in one.
const NEWLINE: &str = "; echo";

impl Line {
    /// A line that asks for what is answered with this status.
    #[must_use]
    pub fn new(status: u16, what: &'static str, line: impl Into<String>) -> Self {
        let line = format!("{}{NEWLINE}", line.into());
        Self { what, status, line }
    }

    /// The same, which also keeps members of what is answered in variables of the shell.
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

/// Prints the lines, each below what it does, and how to stop.
#[expect(clippy::print_stdout, reason = "it is what a person is to see")]
pub fn print(heading: &str, lines: &[Line]) {
    println!("{heading}\nPaste these lines into a shell, one after the other:\n");
    for Line { what, status, line } in lines {
        println!("# {status}: {what}\n{line}");
    }
    println!("\nCtrl-C stops it.");
}
