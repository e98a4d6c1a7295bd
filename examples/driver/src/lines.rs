//! Runs the lines that a product prints, unchanged.

use serde_json::Value;

use crate::Reply;

/// A printed line: its purpose, the expected status, and the line itself.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The purpose of the line.
    pub what: String,
    /// The expected status.
    pub status: u16,
    /// The line.
    pub line: String,
}

/// A line that was run, with the response.
#[derive(Debug)]
pub struct Ran {
    /// The purpose of the line.
    pub what: String,
    /// The response.
    pub reply: Reply,
}

/// The separator between the outputs of two lines.
const MARK: &str = "@@ next line";

/// Finds the lines in the printed text: each one is below a `# 200: purpose`.
pub(crate) fn heads(printed: &[String]) -> Vec<Wanted> {
    let read = |pair: &[String]| {
        let (status, what) = pair[0].strip_prefix("# ")?.split_once(": ")?;
        let (status, what) = (status.parse().ok()?, what.to_owned());
        let line = pair[1].clone();
        Some(Wanted { what, status, line })
    };
    printed.windows(2).filter_map(read).collect()
}

pub(crate) fn script(lines: &[Wanted]) -> String {
    let lines = lines
        .iter()
        .map(|one| format!("echo; echo '{MARK}'\n{}\n", one.line));
    format!("exec 2>&1\n{}", lines.collect::<String>())
}

pub(crate) fn ran(lines: &[Wanted], printed: &str) -> Vec<Ran> {
    let answers: Vec<_> = printed.split(MARK).skip(1).collect();
    assert_eq!(answers.len(), lines.len(), "{printed}");
    let read = |(wanted, answer): (&Wanted, &&str)| {
        let reply = reply(answer.trim());
        assert_eq!(
            reply.status, wanted.status,
            "{}\n{}\n{answer}",
            wanted.what, wanted.line
        );
        let what = wanted.what.clone();
        Ran { what, reply }
    };
    lines.iter().zip(&answers).map(read).collect()
}

/// Parses the output of `curl -i`.
fn reply(text: &str) -> Reply {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_lowercase(), value.to_owned()))
    };
    Reply {
        status: status.unwrap_or_else(|| panic!("curl printed no status: {text}")),
        headers: lines.filter_map(header).collect(),
        body: serde_json::from_str(body.trim()).unwrap_or(Value::String(body.trim().to_owned())),
    }
}
