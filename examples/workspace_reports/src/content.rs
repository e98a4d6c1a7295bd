//! Made-up contents of editions and output files, derived from their ids.

use std::fmt::Write as _;

use serde::Serialize;

use crate::data::{Edition, Output};

const SECTIONS: [&str; 3] = ["figures", "risks", "summary"];
const FIELDS: [&str; 4] = ["Revenue", "Costs", "Headcount", "Emissions"];

/// Number of rows of a section.
const ROWS: usize = 120;

/// A part of an edition.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    edition: String,
    name: &'static str,
    fields: Vec<Field>,
    rows: usize,
}

/// A named value.
#[derive(Debug, Serialize)]
pub(crate) struct Field {
    name: &'static str,
    value: usize,
}

/// One row of a section's table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    label: String,
    value: usize,
}

/// Returns the section with this name. `None` if editions have no such section.
pub(crate) fn section(edition: &Edition, name: &str) -> Option<Section> {
    let name = SECTIONS.into_iter().find(|other| *other == name)?;
    let seed = seed(&edition.summary.id);
    let value = |(number, name): (usize, _)| Field {
        name,
        value: (seed + number * 7_919) % 10_000,
    };
    Some(Section {
        edition: edition.summary.id.clone(),
        name,
        fields: (0..).zip(FIELDS).map(value).collect(),
        rows: ROWS,
    })
}

/// Returns the rows of a section.
pub(crate) fn rows(section: &Section) -> impl Iterator<Item = Row> {
    let seed = seed(&section.edition) + section.name.len();
    (1..=section.rows).map(move |number| Row {
        id: format!("r-{number:03}"),
        label: format!("{} {number}", section.name),
        value: (seed + number * 104_729) % 10_000,
    })
}

/// Returns the file of an output: comma-separated values, with the number of rows at the end.
pub(crate) fn file(output: &Output) -> String {
    let seed = seed(&output.id);
    let mut file = String::from("output,row,value\n");
    for number in 1..=output.rows {
        let value = (seed + number * 104_729) % 1_000_000_000;
        // Writing to a string does not fail.
        let _ = writeln!(file, "{},{number},{value:036}", output.id);
    }
    let _ = writeln!(file, "end,{},", output.rows);
    file
}

fn seed(id: &str) -> usize {
    id.bytes()
        .fold(0, |seed, byte| (seed * 31 + usize::from(byte)) % 1_000_003)
}
