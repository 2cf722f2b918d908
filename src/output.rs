//! Data on standard output: tables for people, JSON for programs. Everything that is not data goes to standard error.

use crate::arguments::View;
use crate::failure::{Code, Failure};
use crate::size::Iec;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, Write};

/// The version of all JSON output. Keys may be added to it; none changes or goes.
pub(crate) const API_VERSION: &str = "offshoot/v1";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    /// A table with all columns
    Wide,
    /// One document
    Json,
    /// A document on each line
    Jsonl,
    /// Comma-separated values, exact (RFC 4180)
    Csv,
    /// Names only
    Name,
}

impl Format {
    /// Whether what was done is told as a document.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

/// How the operator wants data shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) format: Format,
    /// Exact bytes in tables; JSON always has them.
    pub(crate) exact_bytes: bool,
}

impl Style {
    /// A size for a table cell.
    pub(crate) fn size(self, bytes: u64) -> String {
        if self.exact_bytes { bytes.to_string() } else { Iec(bytes).to_string() }
    }
}

/// How long something took, for a table cell.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        ..0.000_001 => format!("{:.0} ns", seconds * 1e9),
        ..0.001 => format!("{:.1} us", seconds * 1e6),
        ..1.0 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

/// Rows under a heading, in columns as wide as their widest cell. A column whose heading starts with '>' is flushed
/// right, all others left.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&heading| heading.to_owned()).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.headings.len(), "a row has a cell for every heading");
        self.rows.push(cells);
    }

    pub(crate) fn render(&self) -> String {
        self.lines(true)
    }

    /// Without the headings.
    pub(crate) fn render_rows(&self) -> String {
        self.lines(false)
    }

    fn lines(&self, with_headings: bool) -> String {
        let titles: Vec<String> =
            self.headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            let title = if with_headings { titles[column].chars().count() } else { 0 };
            cells.chain([title]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let mut text = String::new();
        for row in with_headings.then_some(&titles).into_iter().chain(&self.rows) {
            text.push_str(self.line(row, &widths).trim_end());
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(&self.headings).zip(widths).map(|((cell, heading), &width)| {
            if heading.starts_with('>') { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    }
}

#[derive(Serialize)]
struct Document<'a, T: Serialize> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// A command that has one document to show, not a list.
pub(crate) fn refuse_list_options(view: &View) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::new(Code::Usage, "nothing was done", why, "-o table, or -o json"));
    match view.output {
        Format::Csv => refused("-o csv is for lists"),
        Format::Name => refused("-o name is for lists"),
        _ if !view.columns.is_empty() || view.sort.is_some() || view.selector.is_some() => {
            refused("--columns, --sort and -l are for lists")
        }
        _ => Ok(()),
    }
}

/// Prints one JSON document; `body` is a struct, whose fields stand beside `apiVersion` and `kind`.
pub(crate) fn print_json<T: Serialize>(kind: &'static str, body: &T) -> Result<(), Failure> {
    let document = Document { api_version: API_VERSION, kind, body };
    print_document(&document, true)
}

/// The same on one line.
pub(crate) fn print_json_line<T: Serialize>(kind: &'static str, body: &T) -> Result<(), Failure> {
    print_document(&Document { api_version: API_VERSION, kind, body }, false)
}

fn print_document<T: Serialize>(document: &T, is_pretty: bool) -> Result<(), Failure> {
    let text =
        if is_pretty { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
    let mut text = text
        .map_err(|error| Failure::new(Code::Failed, "no JSON was written", error.to_string(), "-o table"))?;
    text.push('\n');
    print(&text)
}

/// What a command has done: a sentence to people, a document to programs.
pub(crate) fn tell<T: Serialize>(
    style: Style,
    kind: &'static str,
    body: &T,
    sentence: &str,
) -> Result<(), Failure> {
    match style.format {
        Format::Json => print_json(kind, body),
        Format::Jsonl => print_json_line(kind, body),
        Format::Table | Format::Wide | Format::Csv | Format::Name => {
            say(sentence);
            Ok(())
        }
    }
}

/// Prints data. A reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Code::Failed,
            "the answer could not be written",
            error.to_string(),
            "the same command with its output to a file",
        )),
        _ => Ok(()),
    }
}

/// Talk: to standard error. Nobody to hear it is no failure.
pub(crate) fn say(text: &str) {
    let _nobody_listens = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::{Format, Style, Table, time};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", ">SIZE", "ORIGIN"]);
        table.row(vec!["desk-01".into(), "2 GiB".into(), "golden@v1".into()]);
        table.row(vec!["d".into(), "512 MiB".into(), String::new()]);
        assert_eq!(
            table.render(),
            "NAME        SIZE  ORIGIN\ndesk-01    2 GiB  golden@v1\nd        512 MiB\n"
        );
    }

    #[test]
    fn times_are_read_in_the_unit_that_fits_them() {
        let cases =
            [(0.0, "0 ns"), (4.2e-7, "420 ns"), (5.23e-5, "52.3 us"), (0.0012, "1.2 ms"), (69.0, "69.0 s")];
        for (seconds, text) in cases {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn sizes_are_exact_on_request() {
        let style = |exact_bytes| Style { format: Format::Table, exact_bytes };
        assert_eq!(style(false).size(1 << 30), "1 GiB");
        assert_eq!(style(true).size(1 << 30), "1073741824");
    }
}
