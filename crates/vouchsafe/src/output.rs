//! The one way to print: what was asked for goes to standard output, all else to standard error.
//!
//! Text from elsewhere (names, paths, reasons) is made harmless first: a path in the audit log must
//! not be able to move the cursor of the person who reads it.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

use crate::error::VerbError;

/// Widest line when the output is no terminal.
const PLAIN_WIDTH: usize = 4_096;

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Tables and sentences.
    People,
    /// JSON.
    Json,
}

/// Whether colours may be used at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    /// On terminals.
    OnTerminals,
    /// Never: `NO_COLOR` is set, or the terminal has none.
    Never,
}

/// How text is set off. Nothing is ever said by it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    Plain,
    /// Headings and names.
    Bold,
    /// What matters less.
    Dim,
    /// Allowed, added, good.
    Good,
    /// Denied, removed, wrong.
    Bad,
    /// Changed, soon over, worth a look.
    Warn,
    /// Links and commands.
    Accent,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Accent => "36",
        }
    }
}

/// Where a verb prints to.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    form: Form,
    errors: Form,
    colour_out: bool,
    colour_err: bool,
    width: usize,
}

impl Output {
    /// Looks at what standard output and standard error are.
    #[must_use]
    pub(crate) fn new(form: Form, colours: Colours) -> Self {
        let wanted = colours == Colours::OnTerminals;
        Self {
            form,
            errors: form,
            colour_out: wanted && io::stdout().is_terminal(),
            colour_err: wanted && io::stderr().is_terminal(),
            width: terminal_width().unwrap_or(PLAIN_WIDTH),
        }
    }

    /// The same, where programs read standard error line by line: remarks go into the log, and a failure is an object.
    #[must_use]
    pub(crate) fn with_json_errors(self) -> Self {
        Self { errors: Form::Json, colour_err: false, ..self }
    }

    /// Whether programs read it.
    #[must_use]
    pub(crate) fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Whether a person looks at standard output.
    #[must_use]
    pub(crate) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether somebody reads what is said on standard error, and can act on it.
    #[must_use]
    pub(crate) fn reaches_a_person(&self) -> bool {
        self.errors == Form::People && io::stderr().is_terminal()
    }

    /// Whether standard output has colours, for renderers with colours of their own.
    #[must_use]
    pub(crate) fn colours(&self) -> bool {
        self.colour_out
    }

    /// Whether standard error has colours, for renderers with colours of their own.
    #[must_use]
    pub(crate) fn colours_errors(&self) -> bool {
        self.colour_err
    }

    /// Columns of the terminal.
    #[must_use]
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Sets text off for standard output.
    #[must_use]
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        painted(self.colour_out, style, text)
    }

    /// Sets text off for standard error.
    #[must_use]
    pub(crate) fn paint_error(&self, style: Style, text: &str) -> String {
        painted(self.colour_err, style, text)
    }

    /// A line on standard output.
    ///
    /// # Errors
    /// What standard output gives; a closed one is `BrokenPipe`.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Bytes on standard output as they are.
    ///
    /// # Errors
    /// What standard output gives.
    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// A value as JSON on one line of standard output.
    ///
    /// # Errors
    /// What standard output gives.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(value).map_err(io::Error::other)?)
    }

    /// A remark on standard error. Not written under `--json` unless it fails: see [`Output::failure`].
    pub(crate) fn note(&self, text: &str) {
        match (self.form, self.errors) {
            (_, Form::People) => to_stderr(text),
            (Form::People, Form::Json) => tracing::info!("{text}"),
            (Form::Json, Form::Json) => {}
        }
    }

    /// A failure on standard error, for people or as one JSON object.
    pub(crate) fn failure(&self, error: &VerbError) {
        if error.title.is_empty() {
            return;
        }
        if self.errors == Form::Json {
            let object = serde_json::json!({ "error": {
                "title": error.title, "causes": error.causes, "hints": error.hints, "code": error.details.code,
                "decision": error.details.decision, "exit": error.exit as u8,
            }});
            return to_stderr(&object.to_string());
        }
        for diagnostic in &error.details.diagnostics {
            to_stderr(diagnostic.trim_end());
        }
        let label = |style, text: &str| self.paint_error(style, text);
        let mut text = format!("{} {}", label(Style::Bad, "error:"), clean(&error.title));
        for cause in &error.causes {
            text.push_str(&format!("\n  {} {}", label(Style::Dim, "cause:"), clean(cause)));
        }
        for hint in &error.hints {
            text.push_str(&format!("\n  {}  {}", label(Style::Accent, "hint:"), clean(hint)));
        }
        if let Some(decision) = &error.details.decision {
            text.push_str(&format!("\n  {} decision {}", label(Style::Dim, "quote:"), clean(decision)));
        }
        to_stderr(&text);
    }

    /// Asks a question that `y` answers with yes.
    ///
    /// # Errors
    /// [`VerbError`] of usage when nobody is there to answer.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, VerbError> {
        if self.is_json() || !io::stdin().is_terminal() {
            return Err(VerbError::usage("nobody is there to answer, so this needs `--yes`").cause(question));
        }
        let mut err = io::stderr().lock();
        write!(err, "{} {} ", self.paint_error(Style::Warn, "?"), clean(question))?;
        write!(err, "{} ", self.paint_error(Style::Dim, "[y/N]"))?;
        err.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(|error| VerbError::failed(error.to_string()))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// A table with a heading, aligned; the column marked `…` gives way when the terminal is narrow.
    ///
    /// # Errors
    /// What standard output gives.
    pub(crate) fn table(&self, table: &Table) -> io::Result<()> {
        for line in table.lines(self) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// Names and values below each other.
    ///
    /// # Errors
    /// What standard output gives.
    pub(crate) fn facts(&self, facts: &[(&str, String)]) -> io::Result<()> {
        let widest = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        for (name, value) in facts {
            let name = self.paint(Style::Dim, &format!("{name:widest$}"));
            self.line(&format!("  {name}  {value}"))?;
        }
        Ok(())
    }
}

fn to_stderr(text: &str) {
    // Nobody can be told when standard error is gone.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

fn painted(colours: bool, style: Style, text: &str) -> String {
    if colours && style != Style::Plain && !text.is_empty() {
        format!("\x1b[{}m{text}\x1b[0m", style.code())
    } else {
        text.to_owned()
    }
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col >= 40).then_some(usize::from(size.ws_col))
}

/// Text from elsewhere without what a terminal would obey: control characters, and the marks that
/// turn the direction of writing.
#[must_use]
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let harmless = |letter: char| {
        !letter.is_control()
            && !matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let shown = |letter: char| if harmless(letter) { letter.to_string() } else { letter.escape_default().to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in that style.
    pub(crate) fn new(style: Style, text: impl AsRef<str>) -> Self {
        Self { text: clean(text.as_ref()).into_owned(), style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Style::Plain, text)
    }
}

/// Rows below a heading.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table; a column whose name ends in `…` may be shortened.
    #[must_use]
    pub(crate) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines of it, the heading first.
    pub(crate) fn lines(&self, out: &Output) -> Vec<String> {
        const GAP: usize = 2;
        let heading: Vec<Cell> =
            self.heading.iter().map(|name| Cell::new(Style::Dim, name.trim_end_matches('…').to_uppercase())).collect();
        let all = || std::iter::once(&heading).chain(&self.rows);
        let mut widths: Vec<usize> = (0..self.heading.len())
            .map(|at| all().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count()).max().unwrap_or(0))
            .collect();
        let total: usize = widths.iter().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP);
        let excess = total.saturating_sub(out.width);
        let yielding = self.heading.iter().position(|name| name.ends_with('…'));
        if let Some(width) = yielding.and_then(|at| widths.get_mut(at)) {
            *width = width.saturating_sub(excess).max(8.min(*width));
        }
        all().map(|row| line(out, row, &widths, GAP)).collect()
    }
}

fn line(out: &Output, row: &[Cell], widths: &[usize], gap: usize) -> String {
    let mut text = String::new();
    for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
        let length = cell.text.chars().count();
        let shown: Cow<'_, str> = if length > *width {
            cell.text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
        } else {
            Cow::Borrowed(&cell.text)
        };
        text.push_str(&out.paint(cell.style, &shown));
        if at + 1 < row.len() {
            text.push_str(&" ".repeat(width.saturating_sub(length.min(*width)) + gap));
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(width: usize) -> Output {
        Output { form: Form::People, errors: Form::People, colour_out: false, colour_err: false, width }
    }

    #[test]
    fn text_from_elsewhere_cannot_move_the_cursor() {
        assert_eq!(clean("/a\u{1b}[2J\r\nb\u{202e}c"), "/a\\u{1b}[2J\\r\\nb\\u{202e}c");
        assert!(matches!(clean("/ledger/é"), Cow::Borrowed(_)));
    }

    #[test]
    fn columns_stand_below_each_other_and_one_gives_way() {
        let mut table = Table::new(&["name", "description…", "kind"]);
        table.row(["wiki", "the encyclopaedia of the whole company", "http"].map(Cell::from));
        table.row(["finance-db", "ledger", "tcp"].map(Cell::from));
        assert_eq!(
            table.lines(&output(40)),
            [
                "NAME        DESCRIPTION             KIND",
                "wiki        the encyclopaedia of …  http",
                "finance-db  ledger                  tcp"
            ]
        );
        let wide = table.lines(&output(200));
        assert!(wide[1].contains("whole company"));
    }

    #[test]
    fn colours_are_left_out_where_they_are_not_wanted() {
        assert_eq!(painted(false, Style::Bad, "x"), "x");
        assert_eq!(painted(true, Style::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
