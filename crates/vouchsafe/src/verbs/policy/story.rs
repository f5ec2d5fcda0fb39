//! An explanation as a story: what was decided, by what, and what would change it.

use std::io;

use vouchsafe_policy::{Considered, Effect, Explanation, Holds, Part};
use vouchsafe_wire::api::ExplainRequest;

use crate::output::{Output, Style, clean};

/// Tells the answer to a question.
pub(super) fn tell(out: &Output, asked: &ExplainRequest, explanation: &Explanation) -> io::Result<()> {
    let on = match (&asked.device, &asked.grade) {
        (Some(device), _) => format!("on {device}"),
        (None, Some(grade)) => format!("on a device of grade {grade}"),
        (None, None) => "on no proven device".to_owned(),
    };
    let what = match (&asked.action, &asked.path) {
        (Some(action), Some(path)) => format!(" ({action} {path})"),
        (Some(action), None) => format!(" ({action})"),
        (None, Some(path)) => format!(" ({path})"),
        (None, None) => String::new(),
    };
    tell_of(out, &format!("{} {on} → {}{what}", asked.user, asked.resource), explanation)
}

/// Tells the answer to a question in words.
pub(super) fn tell_of(out: &Output, question: &str, explanation: &Explanation) -> io::Result<()> {
    let decision = &explanation.decision;
    let verdict = match decision.outcome.as_str() {
        "allow" => out.paint(Style::Good, "✓ allowed"),
        _ => out.paint(Style::Bad, "✗ denied"),
    };
    out.line(&format!("{verdict}  {}", out.paint(Style::Bold, &clean(question))))?;
    out.line(&format!("  {}", clean(&decision.words)))?;
    let mut remarks = vec![decision.reason.clone(), format!("policy version {}", decision.policy_version)];
    if !decision.advice.is_empty() {
        remarks.push(format!("advice: {}", decision.advice.join(", ")));
    }
    out.line(&format!("  {}", out.paint(Style::Dim, &clean(&remarks.join(" · ")))))?;
    let (deciding, others): (Vec<_>, Vec<_>) = explanation.considered.iter().partition(|policy| policy.decides);
    chapter(out, "Decided by", &deciding)?;
    chapter(
        out,
        if deciding.is_empty() { "Policies about this resource" } else { "Also about this resource" },
        &others,
    )?;
    if explanation.more > 0 {
        out.line(&out.paint(Style::Dim, &format!("  … and {} more", explanation.more)))?;
    }
    if !explanation.would_change.is_empty() {
        out.line(&format!("\n{}", out.paint(Style::Bold, "What would change it")))?;
        for (number, way) in explanation.would_change.iter().enumerate() {
            out.line(&format!("  {}. {}", number + 1, clean(way)))?;
        }
    }
    Ok(())
}

fn chapter(out: &Output, title: &str, policies: &[&Considered]) -> io::Result<()> {
    if policies.is_empty() {
        return Ok(());
    }
    out.line(&format!("\n{}", out.paint(Style::Bold, title)))?;
    for policy in policies {
        let effect = match policy.effect {
            Effect::Permit => out.paint(Style::Good, "permit"),
            Effect::Forbid => out.paint(Style::Bad, "forbid"),
        };
        let name = out.paint(Style::Bold, &clean(policy.id.as_str()));
        let file = out.paint(Style::Dim, &clean(&policy.file));
        let of =
            policy.template.as_ref().map(|of| format!(" of the template {}", clean(of.as_str()))).unwrap_or_default();
        out.line(&format!("  {effect} {name}  {file}{}  {}", out.paint(Style::Dim, &of), clean(&policy.verdict)))?;
        for part in [&policy.scope.principal, &policy.scope.action, &policy.scope.resource] {
            scope(out, part)?;
        }
        for condition in &policy.conditions {
            let (mark, why) = match &condition.holds {
                Holds::True => (out.paint(Style::Good, "✓"), String::new()),
                Holds::False => (out.paint(Style::Bad, "✗"), String::new()),
                Holds::Error(why) => (out.paint(Style::Bad, "!"), format!("  fails: {}", clean(why))),
                Holds::NotReached => (out.paint(Style::Dim, "·"), "  not reached".to_owned()),
            };
            out.line(&format!("      {mark} {}{why}", clean(&condition.text)))?;
        }
        if policy.needs_device {
            out.line(&format!("      {}", out.paint(Style::Dim, "counts only on an enrolled device")))?;
        }
    }
    Ok(())
}

/// `principal` alone is about everybody and says nothing.
fn scope(out: &Output, part: &Part) -> io::Result<()> {
    if part.matched && ["principal", "action", "resource"].contains(&part.text.as_str()) {
        return Ok(());
    }
    let mark = if part.matched { out.paint(Style::Good, "✓") } else { out.paint(Style::Bad, "✗") };
    out.line(&format!("      {mark} {}", clean(&part.text)))
}
