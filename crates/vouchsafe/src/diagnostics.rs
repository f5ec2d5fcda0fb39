//! Mistakes in policies and manifests, drawn with the place in the file that is wrong.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};
use vouchsafe_wire::api::{Diagnostic, FailedTest, PolicyFileDoc};

use crate::output::{Output, Style, clean};

/// One mistake with the text it is in, as miette wants it.
#[derive(Debug)]
struct Drawn {
    diagnostic: Diagnostic,
    source: Option<NamedSource<String>>,
}

impl std::fmt::Display for Drawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&clean(&self.diagnostic.message))
    }
}

impl std::error::Error for Drawn {}

impl miette::Diagnostic for Drawn {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.diagnostic.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(if self.diagnostic.severity == "warning" { Severity::Warning } else { Severity::Error })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.diagnostic.hint.as_ref().map(|hint| Box::new(clean(hint)) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let span = (self.diagnostic.offset, self.diagnostic.length.max(1));
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, span))))
    }
}

/// Draws each mistake with the lines of the file it is in.
#[must_use]
pub(crate) fn render(out: &Output, diagnostics: &[Diagnostic], files: &[PolicyFileDoc]) -> Vec<String> {
    let theme = if out.colours_errors() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(out.width().min(120));
    diagnostics
        .iter()
        .map(|diagnostic| {
            let text = files.iter().find(|file| file.name == diagnostic.file).map(|file| file.text.as_str());
            // A place outside the text would draw nothing; the plain form still says what is wrong.
            let inside = text.filter(|text| diagnostic.line > 0 && diagnostic.offset <= text.len());
            let Some(inside) = inside else { return plain(diagnostic) };
            let source = NamedSource::new(&diagnostic.file, inside.to_owned());
            let drawn = Drawn { diagnostic: diagnostic.clone(), source: Some(source) };
            let mut text = String::new();
            match handler.render_report(&mut text, &drawn) {
                Ok(()) => text,
                Err(_) => plain(diagnostic),
            }
        })
        .collect()
}

/// One line for each mistake, when its file isn't at hand.
#[must_use]
pub(crate) fn render_plain(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(plain).collect()
}

/// Tests that fail, a paragraph each.
#[must_use]
pub(crate) fn failed_tests(out: &Output, failed: &[FailedTest]) -> Vec<String> {
    let told = |FailedTest { file, line, case, question, failure, would_change }: &FailedTest| {
        let mark = out.paint_error(Style::Bad, "✗");
        let place = out.paint_error(Style::Dim, &clean(&format!("{file}:{line}")));
        let mut text = format!("{mark} {}  {place}", out.paint_error(Style::Bold, &clean(case)));
        text.push_str(&format!("\n  {}\n  {}", clean(question), clean(failure)));
        for way in would_change {
            text.push_str(&format!("\n    - {}", clean(way)));
        }
        text
    };
    failed.iter().map(told).collect()
}

fn plain(diagnostic: &Diagnostic) -> String {
    let Diagnostic { severity, code, message, file, line, column, .. } = diagnostic;
    let place = match (file.is_empty(), line) {
        (true, _) => String::new(),
        (false, 0) => format!("{}: ", clean(file)),
        (false, _) => format!("{}:{line}:{column}: ", clean(file)),
    };
    let mut text = format!("{place}{}[{}]: {}", clean(severity), clean(code), clean(message));
    if let Some(hint) = &diagnostic.hint {
        text.push_str(&format!("\n  hint: {}", clean(hint)));
    }
    text
}

/// How many errors and warnings there are, in words.
#[must_use]
pub(crate) fn count(diagnostics: &[Diagnostic]) -> String {
    let warnings = diagnostics.iter().filter(|diagnostic| diagnostic.severity == "warning").count();
    let errors = diagnostics.len() - warnings;
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, warnings) => plural(warnings, "warning"),
        (errors, 0) => plural(errors, "error"),
        (errors, warnings) => format!("{} and {}", plural(errors, "error"), plural(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Colours, Form};

    fn diagnostic() -> Diagnostic {
        Diagnostic {
            severity: "error".into(),
            code: "unknown_attribute".into(),
            message: "`nmae` does not exist".into(),
            file: "a.cedar".into(),
            line: 2,
            column: 6,
            offset: 15,
            length: 4,
            hint: Some("use `name`".into()),
        }
    }

    #[test]
    fn the_place_is_drawn_with_the_hint() {
        let file = PolicyFileDoc { name: "a.cedar".into(), text: "permit (a);\nuser.nmae == 1\n".into() };
        let out = Output::new(Form::People, Colours::Never);
        let drawn = render(&out, &[diagnostic()], &[file]).concat();
        for part in ["unknown_attribute", "`nmae` does not exist", "a.cedar:2:4", "user.nmae == 1", "use `name`"] {
            assert!(drawn.contains(part), "{part} in\n{drawn}");
        }
    }

    #[test]
    fn without_the_file_one_line_says_it() {
        let out = Output::new(Form::People, Colours::Never);
        let drawn = render(&out, &[diagnostic()], &[]).concat();
        assert_eq!(drawn, "a.cedar:2:6: error[unknown_attribute]: `nmae` does not exist\n  hint: use `name`");
        let mut outside = diagnostic();
        outside.offset = 10_000;
        let outside = render(&out, &[outside], &[PolicyFileDoc { name: "a.cedar".into(), text: "x".into() }]).concat();
        assert!(outside.contains("error[unknown_attribute]"));
    }

    #[test]
    fn counts_read_well() {
        let mut warning = diagnostic();
        warning.severity = "warning".into();
        assert_eq!(count(&[diagnostic(), diagnostic(), warning]), "2 errors and 1 warning");
    }
}
