//! Promise 38: whatever README.md, SECURITY.md and the guides say holds is shown by a test that `docs/claims.md` names.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A text as one line of plain words: links are their texts, and nothing is emphasized.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some(end) = rest.find("](") {
        let start = rest[..end].rfind('[').unwrap();
        text.push_str(&rest[..start]);
        text.push_str(&rest[start + 1..end]);
        rest = rest[end..].split_once(')').unwrap().1;
    }
    text.push_str(rest);
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace("**", "")
}

/// A sentence, or a few, and the tests that show it: files, and what must stand there.
struct Claim {
    file: String,
    sentence: String,
    tests: Vec<(String, Vec<String>)>,
}

fn claims() -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    let mut file = String::new();
    for paragraph in read("docs/claims.md").split("\n\n") {
        let paragraph = paragraph.trim();
        if let Some(heading) = paragraph.strip_prefix("## ") {
            heading.clone_into(&mut file);
        } else if paragraph.starts_with("> ") {
            let lines: Vec<_> = paragraph
                .lines()
                .map(|line| line.trim_start_matches('>'))
                .collect();
            let (sentence, tests) = (plain(&lines.join(" ")), Vec::new());
            claims.push(Claim {
                file: file.clone(),
                sentence,
                tests,
            });
        } else if paragraph.starts_with("- `") {
            for item in format!("\n{paragraph}").split("\n- ").skip(1) {
                // Every second piece stands between backquotes.
                let mut quoted = item.split('`').skip(1).step_by(2).map(str::to_owned);
                let test = (quoted.next().unwrap(), quoted.collect());
                claims.last_mut().unwrap().tests.push(test);
            }
        }
    }
    claims
}

#[test]
fn every_claim_has_existing_tests() {
    let claims = claims();
    assert!(!claims.is_empty());
    for Claim {
        file,
        sentence,
        tests,
    } in claims
    {
        assert!(
            plain(&read(&file)).contains(&sentence),
            "{file} does not say: {sentence}"
        );
        assert!(!tests.is_empty(), "no test is named for: {sentence}");
        for (path, names) in tests {
            let source = read(&path);
            for name in names {
                let is_function = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
                let is_there = source.contains(&if is_function {
                    format!("fn {name}(")
                } else {
                    name.clone()
                });
                assert!(
                    is_there,
                    "{path} has no {name}, which is named for: {sentence}"
                );
            }
        }
    }
}

/// What must be shown: the paragraphs which say what holds.
fn to_be_shown() -> Vec<(&'static str, String)> {
    let (guide, security) = (read("src/manual/management.md"), read("SECURITY.md"));
    let readme = read("README.md");
    let section = |file, text: &str, begin: &str, end: &str| {
        let (_, section) = text.split_once(begin).unwrap();
        (file, section.split_once(end).unwrap().0.to_owned())
    };
    let mut all = vec![
        section("README.md", &readme, "## Security\n", "\n\n["),
        section(
            "src/manual/management.md",
            &guide,
            "# What does every call do?\n",
            "\n\n#",
        ),
        section(
            "SECURITY.md",
            &security,
            "[tests/sqlite](tests/sqlite/tests).\n",
            "\n\n#",
        ),
    ];
    let holds = security.split("**Holds:**").skip(1);
    all.extend(holds.map(|text| {
        let end = text.find("\n\n").unwrap_or(text.len());
        let end = text
            .find("**Does not hold:**")
            .map_or(end, |other| other.min(end));
        ("SECURITY.md", text[..end].to_owned())
    }));
    all
}

#[test]
fn nothing_is_claimed_without_a_test() {
    let claims = claims();
    let texts = to_be_shown();
    assert!(
        texts.len() > 10,
        "the paragraphs that say what holds were not found"
    );
    for (file, text) in texts {
        let mut rest = plain(&format!("\n{text}").replace("\n- ", "\n"));
        for claim in claims.iter().filter(|claim| claim.file == file) {
            rest = rest.replace(&claim.sentence, "");
        }
        let rest = rest.trim();
        assert!(
            rest.is_empty(),
            "{file} says, and docs/claims.md does not: {rest}"
        );
    }
}
