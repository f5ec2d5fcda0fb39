//! `policy history`: versions, and what each of them changed.

use std::io;

use vouchsafe_policy::{Line, changed_lines};
use vouchsafe_wire::api::{PolicyFileDoc, PolicyVersion, changed_files};

use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Output, Style, Table, clean};
use crate::verbs::{ago, show};

/// Lines that stay, around those that change.
const AROUND: usize = 3;

pub(super) async fn run(call: &Call, version: Option<u64>) -> Result<Exit, VerbError> {
    let client = AdminClient::open(call).await?;
    let Some(number) = version else {
        let versions: Vec<PolicyVersion> = client.get("/v1/policy/history").await?;
        return show(call, &versions, |versions| call.out.table(&table(versions)));
    };
    let version: PolicyVersion = client.get(&format!("/v1/policy/history/{number}")).await?;
    let before: Option<PolicyVersion> = match number.checked_sub(1).filter(|before| *before > 0) {
        Some(before) => Some(client.get(&format!("/v1/policy/history/{before}")).await?),
        None => None,
    };
    show(call, &version, |version| tell(&call.out, before.as_ref(), version))
}

fn table(versions: &[PolicyVersion]) -> Table {
    let mut table = Table::new(&["version", "", "policies", "when", "by", "approved by", "note…"]);
    for version in versions {
        let mark = match (version.current, version.confirm_by) {
            (true, None) => Cell::new(Style::Good, "in force"),
            (true, Some(_)) => Cell::new(Style::Warn, "unconfirmed"),
            (false, _) => "".into(),
        };
        table.row([
            Cell::new(Style::Bold, version.version.to_string()),
            mark,
            version.policies.to_string().into(),
            ago(Some(version.created)).into(),
            (&version.by).into(),
            version.approved_by.as_deref().unwrap_or_default().into(),
            (&version.note).into(),
        ]);
    }
    table
}

fn tell(out: &Output, before: Option<&PolicyVersion>, version: &PolicyVersion) -> io::Result<()> {
    let PolicyVersion { version: number, created, by, approved_by, note, .. } = version;
    let approved = approved_by.as_ref().map(|who| format!(", approved by {}", clean(who))).unwrap_or_default();
    out.line(&format!(
        "{}  {} by {}{approved}",
        out.paint(Style::Bold, &format!("version {number}")),
        ago(Some(*created)),
        clean(by)
    ))?;
    if !note.is_empty() {
        out.line(&format!("  {}", clean(note)))?;
    }
    differences(out, &before.map(PolicyVersion::all_files).unwrap_or_default(), &version.all_files())
}

/// What is different between files, line by line.
pub(super) fn differences(out: &Output, old: &[&PolicyFileDoc], new: &[&PolicyFileDoc]) -> io::Result<()> {
    for (name, was, is) in changed_files(old, new) {
        out.line(&format!("\n{}", out.paint(Style::Bold, &clean(name))))?;
        changes(out, was, is)?;
    }
    Ok(())
}

fn changes(out: &Output, was: &str, is: &str) -> io::Result<()> {
    for line in changed_lines(was, is, AROUND) {
        let (sign, style, text) = match line {
            Line::Old(text) => ("-", Style::Bad, text),
            Line::New(text) => ("+", Style::Good, text),
            Line::Both(text) => (" ", Style::Plain, text),
            Line::Gap => ("…", Style::Dim, ""),
        };
        let text = text.replace('\t', "    ");
        out.line(&format!("  {}", out.paint(style, clean(&format!("{sign} {text}")).trim_end())))?;
    }
    Ok(())
}
