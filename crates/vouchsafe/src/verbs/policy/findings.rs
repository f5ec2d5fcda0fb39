//! What was asked about a policy and how it came out, in words: for `policy prove` and `policy publish`.

use std::io;

use vouchsafe_wire::proof::{About, CaseDoc, FindingDoc, VerdictDoc};

use crate::output::{Output, Style, clean};

/// How text is set off: for standard output or standard error.
type Paint<'p> = &'p dyn Fn(Style, &str) -> String;

/// What is not proven, a paragraph each, for standard error.
pub(crate) fn unproven(out: &Output, findings: &[FindingDoc]) -> Vec<String> {
    let paint = |style, text: &str| out.paint_error(style, text);
    findings.iter().map(|finding| told(finding, &paint).join("\n")).collect()
}

/// One finding: its title, and the case or cause in further lines.
pub(super) fn told(finding: &FindingDoc, paint: Paint<'_>) -> Vec<String> {
    let (style, word) = match finding.verdict {
        VerdictDoc::Proven => (Style::Good, "✓ proven    "),
        VerdictDoc::Refuted => (Style::Bad, "✗ not so    "),
        VerdictDoc::Vacant => (Style::Warn, "✗ says nothing"),
        VerdictDoc::Open => (Style::Warn, "? not proven"),
    };
    let mut lines = vec![format!("{} {}", paint(style, word), title(finding, paint))];
    match (finding.verdict, &finding.case) {
        (VerdictDoc::Refuted, Some(case)) => lines.extend(of_case(case, paint)),
        (VerdictDoc::Vacant, _) => {
            lines.push(paint(Style::Dim, "    there is no request that it could be about"));
        }
        (VerdictDoc::Open, _) => lines.push(paint(Style::Dim, &format!("    {}", clean(&finding.why)))),
        (VerdictDoc::Proven | VerdictDoc::Refuted, _) => {}
    }
    lines
}

fn title(finding: &FindingDoc, paint: Paint<'_>) -> String {
    let FindingDoc { about, name, claim, reason, file, line, .. } = finding;
    let name = paint(Style::Bold, &clean(name));
    match about {
        About::Invariant => {
            let place = paint(Style::Dim, &clean(&format!("{file}:{line}")));
            let what =
                if reason.is_empty() { format!("{}  {place}", clean(claim)) } else { clean(reason).into_owned() };
            format!("{name}  {what}")
        }
        About::NoMore => paint(Style::Bold, "nothing is allowed that was not before"),
        About::CannotFail => format!("{name}  can't fail"),
        About::Applies => format!("{name}  applies to something"),
    }
}

/// A case, a line each.
fn of_case(case: &CaseDoc, paint: Paint<'_>) -> Vec<String> {
    let CaseDoc { principal, action, resource, facts, allowed, policies, fails } = case;
    let (style, word) = if *allowed { (Style::Good, "allowed") } else { (Style::Bad, "denied") };
    let asked = format!("{} to {} on {}", clean(principal), clean(action), clean(resource));
    let mut lines = vec![format!("    {asked} is {}", paint(style, word))];
    lines.push(match fails {
        Some(fails) => format!("    because {}", clean(fails)),
        None if policies.is_empty() => "    because no policy applies".to_owned(),
        None => format!("    by {}", paint(Style::Bold, &clean(&policies.join(", ")))),
    });
    lines.push("    when".to_owned());
    lines.extend(facts.iter().map(|fact| paint(Style::Dim, &format!("      {}", clean(fact)))));
    lines
}

/// What was proven at a publish, and whether anything is allowed that was not before.
pub(super) fn of_publish(out: &Output, findings: &[FindingDoc]) -> io::Result<()> {
    let of = |about| findings.iter().filter(move |finding| finding.about == about);
    let invariants = of(About::Invariant).count();
    if invariants > 0 {
        let what = if invariants == 1 {
            "1 invariant is proven".to_owned()
        } else {
            format!("{invariants} invariants are proven")
        };
        out.line(&format!("{} {what}", out.paint(Style::Good, "✓")))?;
    }
    for finding in of(About::NoMore) {
        match (finding.verdict, &finding.case) {
            (VerdictDoc::Proven, _) => {
                out.line(&format!("{} nothing is allowed that was not before", out.paint(Style::Good, "✓")))?;
            }
            (VerdictDoc::Refuted, Some(case)) => {
                out.line(&format!(
                    "{} something is allowed that was not before, such as",
                    out.paint(Style::Warn, "!")
                ))?;
                for line in of_case(case, &|style, text| out.paint(style, text)) {
                    out.line(&line)?;
                }
            }
            _ => {
                let why =
                    format!("whether anything is allowed that was not before is not known: {}", clean(&finding.why));
                out.note(&out.paint_error(Style::Dim, &why));
            }
        }
    }
    Ok(())
}
