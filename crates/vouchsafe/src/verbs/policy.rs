//! `policy`: who may reach what, under which conditions.

mod difference;
mod findings;
mod foresee;
mod history;
mod junit;
mod pending;
mod proof;
mod rights;
mod simulate;
mod story;
mod suggest;
mod suite;
mod templates;

pub(crate) use findings::unproven;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use http::Method;
use vouchsafe_model::action::Action;
use vouchsafe_model::name::{DeviceName, UserName};
use vouchsafe_model::subject::Grade;
use vouchsafe_policy::{Explanation, PolicyFile};
use vouchsafe_wire::api::{
    Checked, Confirm, Diagnostic, ExplainRequest, PolicyFileDoc, PolicyFiles, PolicyVersion, Publish, Published,
    Rollback,
};

use super::plan::unusable;
use super::{ago, agreed, now, show};
use crate::admin::AdminClient;
use crate::call::Call;
use crate::diagnostics;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::manifest::{self, PolicyDir};
use crate::output::{Style, clean};
use crate::text::{self, Moment};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Prints the schema: the words that policies can use.
    #[command(after_help = "Example:\n  vouchsafe policy schema > vouchsafe.cedarschema")]
    Schema,
    /// Checks policy files, with the place of each mistake and what to do.
    #[command(after_help = "Example:\n  vouchsafe policy check company/policy")]
    Check {
        /// Directory of .cedar files.
        #[arg(id = "files", value_name = "DIR")]
        dir: PathBuf,
        /// Uses this program alone, without asking the installation.
        #[arg(long)]
        offline: bool,
    },
    /// Runs the tests of a directory, without an installation.
    ///
    /// Tests are TOML files below a folder `tests`; resources and groups are those of the directory. Grants have no
    /// part in it. Exit code 1 when a test fails.
    #[command(
        after_help = "Examples:\n  vouchsafe policy test company\n  vouchsafe policy test company --junit results.xml"
    )]
    Test(suite::Args),
    /// Proves what is to hold of the policies of a directory, for every request there can be.
    ///
    /// What is to hold stands in TOML files below a folder `invariants`. A solver answers, cvc5, a program of its own; what
    /// it can't say in time is not proven. Exit code 1 when anything is not.
    #[command(
        after_help = "Examples:\n  vouchsafe policy prove company\n  vouchsafe policy prove company --each\n  vouchsafe policy prove draft --no-more-than company"
    )]
    Prove(proof::Args),
    /// Puts policy files into force, all at once, as a new version.
    ///
    /// Tests below a folder `tests` and invariants below a folder `invariants` go with it: it is refused when a test
    /// fails, an invariant isn't proven, or a policy could fail. Without any, those of the version in force stay.
    /// The answer says whether anything is allowed that was not before.
    ///
    /// What touches a policy that says `@approval("two-person")` waits for another administrator: exit code 5.
    #[command(after_help = "Example:\n  vouchsafe policy publish company/policy --note 'open the wiki to all'")]
    Publish {
        /// Directory of .cedar files; it is the whole policy.
        #[arg(id = "files", value_name = "DIR")]
        dir: PathBuf,
        /// Why, for the history.
        #[arg(long, visible_alias = "reason", default_value = "", hide_default_value = true)]
        note: String,
        /// Refuses unless this version is in force.
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
        /// Goes back by itself unless it is confirmed within this time, such as `5m`.
        #[arg(long, value_name = "TIME", value_parser = text::duration)]
        confirm_within: Option<Duration>,
    },
    /// Keeps a version that would go back by itself.
    #[command(after_help = "Example:\n  vouchsafe policy confirm 7")]
    Confirm {
        /// The version, which has to be in force.
        #[arg(id = "which", value_name = "VERSION")]
        version: u64,
    },
    /// Lists all versions, or shows what one of them changed.
    #[command(after_help = "Examples:\n  vouchsafe policy history\n  vouchsafe policy history 7")]
    History {
        /// Version whose changes are shown, line by line.
        #[arg(id = "which", value_name = "VERSION")]
        version: Option<u64>,
    },
    /// Puts an earlier version into force again, as a new one.
    #[command(after_help = "Example:\n  vouchsafe policy rollback 3")]
    Rollback {
        /// Version to go back to.
        #[arg(id = "to", value_name = "VERSION")]
        version: u64,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Lists versions that wait for a second administrator, or shows what one of them would change.
    #[command(
        after_help = "Examples:\n  vouchsafe policy pending\n  vouchsafe policy pending show prp_06f2k0q8c1m5s7v9x3b4d6g8h0"
    )]
    Pending(pending::Args),
    /// Puts a version into force that another administrator proposed.
    #[command(
        after_help = "Example:\n  vouchsafe policy approve prp_06f2k0q8c1m5s7v9x3b4d6g8h0 --reason 'seen with ann'"
    )]
    Approve(pending::Deciding),
    /// Decides that a proposed version comes to nothing; its author may, too.
    #[command(
        after_help = "Example:\n  vouchsafe policy reject prp_06f2k0q8c1m5s7v9x3b4d6g8h0 --reason 'opens payroll'"
    )]
    Reject(pending::Deciding),
    /// Prints the policy in force.
    #[command(after_help = "Example:\n  vouchsafe policy show")]
    Show,
    /// Lists the templates that grants can be made from, or shows one.
    ///
    /// A template is a policy with the slots `?principal` and `?resource`: `grant add USER RESOURCE --template NAME`
    /// fills them.
    #[command(after_help = "Examples:\n  vouchsafe policy templates\n  vouchsafe policy templates reader")]
    Templates(templates::Args),
    /// Says why a request is or would be allowed or denied, and what would change that.
    #[command(
        after_help = "Examples:\n  vouchsafe policy explain --user alice --device alice-laptop --resource finance\n  vouchsafe policy explain --user alice --resource wiki --path /admin --ip 203.0.113.9"
    )]
    Explain(Question),
    /// Says who gains and who loses what between two versions, or with a draft.
    ///
    /// Over the users, groups, grants and resources that there are. Without versions, it is the last publish.
    #[command(
        after_help = "Examples:\n  vouchsafe policy diff\n  vouchsafe policy diff 3 7\n  vouchsafe policy diff -f company/policy"
    )]
    Diff(difference::Args),
    /// Says what the decisions that were recorded would come to under a draft.
    ///
    /// Each is decided again on what was known then: who, in which groups, on which device, signed in when. Resources and
    /// grants are those of now. Exit code 1 when an access that was allowed would be denied.
    #[command(
        after_help = "Examples:\n  vouchsafe policy simulate company/policy\n  vouchsafe policy simulate -f company --since 7d --json"
    )]
    Simulate(simulate::Args),
    /// Suggests a policy that allows what was used and no more, or shows rights that nobody used.
    ///
    /// A right goes to exactly those who used it; a group stands for its members where all of them did. Nothing is published:
    /// the files are drafts to read.
    #[command(
        after_help = "Examples:\n  vouchsafe policy suggest --since 30d --resource wiki -o company/policy\n  vouchsafe policy suggest --observed wiki.jsonl --group-share 80%\n  vouchsafe policy suggest --unused 90d"
    )]
    Suggest(suggest::Args),
    /// Lists everybody who can do something to a resource, by which policy, and under which conditions.
    ///
    /// Over the users, groups, grants and resources that there are. What only a request can bring with it stays as a
    /// condition, such as the device, the age of the sign-in or where it comes from.
    #[command(
        after_help = "Examples:\n  vouchsafe policy who-can http:write finance\n  vouchsafe policy who-can console:write console"
    )]
    WhoCan(rights::WhoArgs),
    /// Lists all that a user can reach, by which policy, and under which conditions.
    #[command(
        after_help = "Examples:\n  vouchsafe policy what-can alice\n  vouchsafe policy what-can alice --device alice-laptop"
    )]
    WhatCan(rights::WhatArgs),
}

/// What is to be explained.
#[derive(Debug, clap::Args)]
pub(crate) struct Question {
    /// Who asks.
    #[arg(long)]
    user: UserName,
    /// On which device, by name or id [default: none].
    #[arg(long)]
    device: Option<DeviceName>,
    /// Grade to assume instead of the device's: none, software, hardware or hardware-attested.
    #[arg(long, value_parser = grade)]
    grade: Option<Grade>,
    /// What is asked for; `console` is vouchsafe's own.
    #[arg(long)]
    resource: String,
    /// What is done to it, such as `http:write` [default: the first of its kind].
    #[arg(long)]
    action: Option<Action>,
    /// HTTP method.
    #[arg(long)]
    method: Option<String>,
    /// HTTP path.
    #[arg(long)]
    path: Option<String>,
    /// Address that the request comes from.
    #[arg(long)]
    ip: Option<IpAddr>,
    /// As if the key of the connection had been agreed on in a post-quantum way.
    #[arg(long)]
    post_quantum: bool,
    /// How long ago the sign-in was, such as `2h`.
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    auth_age: Option<Duration>,
    /// Time to assume as now: RFC 3339, or how long ago.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    at: Option<Moment>,
}

fn grade(word: &str) -> Result<Grade, &'static str> {
    Grade::from_word(word).ok_or("it is none, software, hardware or hardware-attested")
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    match verb {
        Verb::Schema => schema(call).await,
        Verb::Check { dir, offline } => check(call, &dir, offline).await,
        Verb::Test(args) => suite::run(&args, call),
        Verb::Prove(args) => proof::run(&args, call),
        Verb::Publish { dir, note, expect, confirm_within } => {
            publish(call, &dir, Publishing { note, expect, confirm_within }).await
        }
        Verb::Confirm { version } => {
            let confirm = Confirm { version };
            let client = AdminClient::open(call).await?;
            let version: PolicyVersion = client.send(Method::POST, "/v1/policy/confirm", &confirm).await?;
            show(call, &version, |version| in_force(call, version))
        }
        Verb::History { version } => history::run(call, version).await,
        Verb::Rollback { version, yes } => {
            let client = AdminClient::open(call).await?;
            agreed(call, yes, &format!("Put version {version} of the policy into force again?"))?;
            let rollback = Rollback { version };
            let published = client.send(Method::POST, "/v1/policy/rollback", &rollback).await?;
            told(call, &published)
        }
        Verb::Pending(args) => pending::run(args, call).await,
        Verb::Approve(args) => pending::approve(args, call).await,
        Verb::Reject(args) => pending::reject(args, call).await,
        Verb::Show => {
            let version: PolicyVersion = AdminClient::open(call).await?.get("/v1/policy").await?;
            show(call, &version, |version| files(call, version))
        }
        Verb::Templates(args) => templates::run(args, call).await,
        Verb::Explain(question) => explain(call, question).await,
        Verb::Diff(args) => difference::run(&args, call).await,
        Verb::Simulate(args) => simulate::run(&args, call).await,
        Verb::Suggest(args) => suggest::run(&args, call).await,
        Verb::WhoCan(args) => rights::who(&args, call).await,
        Verb::WhatCan(args) => rights::what(&args, call).await,
    }
}

/// The installation's schema, or this program's own when no installation is at hand.
async fn schema(call: &Call) -> Result<Exit, VerbError> {
    let text = match AdminClient::open(call).await {
        Ok(client) => client.get_text("/v1/policy/schema").await?,
        Err(_) => vouchsafe_policy::schema_text().to_owned(),
    };
    if call.out.is_json() {
        call.out.json(&serde_json::json!({ "schema": text }))?;
    } else {
        call.out.raw(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

async fn check(call: &Call, dir: &Path, offline: bool) -> Result<Exit, VerbError> {
    let files = manifest::policy_files(dir).map_err(|error| unusable(call, error))?;
    let client = if offline { None } else { AdminClient::open(call).await.ok() };
    let checked = match &client {
        Some(client) => {
            let body = PolicyFiles { files: files.clone() };
            client.send(Method::POST, "/v1/policy/check", &body).await?
        }
        None => check_here(&files),
    };
    let Checked { ok, policies, diagnostics } = &checked;
    let exit = if *ok { Exit::Ok } else { Exit::Failed };
    let out = &call.out;
    if out.is_json() {
        out.json(&checked)?;
        return Ok(exit);
    }
    for drawn in diagnostics::render(out, diagnostics, &files) {
        out.note(drawn.trim_end());
    }
    let found = diagnostics::count(diagnostics);
    let plural = if files.len() == 1 { "" } else { "s" };
    let (mark, what) = match (ok, diagnostics.is_empty()) {
        (true, true) => (out.paint(Style::Good, "✓"), "nothing to complain about".to_owned()),
        (true, false) => (out.paint(Style::Warn, "✓"), found),
        (false, _) => (out.paint(Style::Bad, "✗"), found),
    };
    // The local check does not count policies.
    let size = if client.is_some() { format!("{policies} policies in ") } else { String::new() };
    out.line(&format!("{mark} {size}{} file{plural}: {what}", files.len()))?;
    if client.is_none() && !offline {
        out.note(&out.paint_error(Style::Dim, "checked with this program alone: no installation is at hand"));
    }
    Ok(exit)
}

/// Files as the policy engine takes them.
pub(crate) fn sources(files: &[PolicyFileDoc]) -> Vec<PolicyFile> {
    files.iter().map(|file| PolicyFile { name: file.name.clone(), text: file.text.clone() }).collect()
}

fn check_here(files: &[PolicyFileDoc]) -> Checked {
    let found = vouchsafe_policy::check(&sources(files));
    Checked {
        ok: !found.iter().any(vouchsafe_policy::Diagnostic::is_error),
        policies: 0,
        diagnostics: found.into_iter().map(drawable).collect(),
    }
}

/// A mistake as the API tells it, which can be drawn.
fn drawable(found: vouchsafe_policy::Diagnostic) -> Diagnostic {
    Diagnostic {
        severity: found.severity.to_string(),
        code: found.code.into_owned(),
        message: found.message,
        file: found.file,
        line: found.line,
        column: found.column,
        offset: found.offset,
        length: found.length,
        hint: found.hint,
    }
}

/// How something is to be published.
struct Publishing {
    note: String,
    expect: Option<u64>,
    confirm_within: Option<Duration>,
}

async fn publish(call: &Call, dir: &Path, how: Publishing) -> Result<Exit, VerbError> {
    let Publishing { note, expect, confirm_within } = how;
    let PolicyDir { files, tests, invariants } = manifest::policy(dir).map_err(|error| unusable(call, error))?;
    let client = AdminClient::open(call).await?;
    let others = [&tests, &invariants].into_iter().flatten().flatten();
    let all: Vec<PolicyFileDoc> = files.iter().chain(others).cloned().collect();
    let confirm_within = confirm_within.map(|within| within.as_secs());
    let compare = true;
    let body = Publish { files, tests, invariants, compare, note, expected_version: expect, confirm_within };
    let published = client.send_files(call, Method::POST, "/v1/policy/publish", &body, &all).await?;
    told(call, &published)
}

fn told(call: &Call, published: &Published) -> Result<Exit, VerbError> {
    match published {
        Published::InForce(version) => show(call, version, |version| in_force(call, version)),
        Published::Waits(proposal) => {
            show(call, proposal, |proposal| pending::waits(call, proposal))?;
            Ok(Exit::Waits)
        }
    }
}

fn in_force(call: &Call, version: &PolicyVersion) -> std::io::Result<()> {
    let out = &call.out;
    let number = out.paint(Style::Bold, &format!("version {}", version.version));
    out.line(&format!("{} {number} is in force, with {} policies", out.paint(Style::Good, "✓"), version.policies))?;
    findings::of_publish(out, &version.proofs)?;
    if let Some(confirm_by) = version.confirm_by {
        let within = text::about(confirm_by.saturating_sub(now()));
        let verb = format!("vouchsafe policy confirm {}", version.version);
        out.note(&format!(
            "{} confirm it within {within}, or the version before comes back: {}",
            out.paint_error(Style::Warn, "!"),
            out.paint_error(Style::Accent, &verb)
        ));
    }
    Ok(())
}

fn files(call: &Call, version: &PolicyVersion) -> std::io::Result<()> {
    let out = &call.out;
    let by = format!("version {}, {} by {}", version.version, ago(Some(version.created)), clean(&version.by));
    out.line(&out.paint(Style::Dim, &format!("// {by}")))?;
    for file in &version.files {
        out.line(&out.paint(Style::Bold, &format!("\n// {}", clean(&file.name))))?;
        for line in file.text.lines() {
            out.line(&clean(&line.replace('\t', "    ")))?;
        }
    }
    Ok(())
}

async fn explain(call: &Call, question: Question) -> Result<Exit, VerbError> {
    let Question { user, device, grade, resource, action, method, path, ip, post_quantum, auth_age, at } = question;
    let asked = ExplainRequest {
        user: user.to_string(),
        device: device.map(|device| device.to_string()),
        grade: grade.map(|grade| grade.as_str().to_owned()),
        resource,
        action: action.map(|action| action.to_string()),
        method,
        path,
        ip: ip.map(|ip| ip.to_string()),
        post_quantum,
        auth_age: auth_age.map(|age| age.as_secs()),
        at: at.map(|at| at.unix_seconds(now())),
    };
    let client = AdminClient::open(call).await?;
    let explanation: Explanation = client.send(Method::POST, "/v1/policy/explain", &asked).await?;
    show(call, &explanation, |explanation| story::tell(&call.out, &asked, explanation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_check_finds_mistakes_with_their_places() {
        let file = |text: &str| PolicyFileDoc { name: "a.cedar".into(), text: text.into() };
        let checked = check_here(&[file("@id(\"x\")\npermit (principal, action, resource)\nwhen { context.nope };\n")]);
        assert!(!checked.ok);
        let first = checked.diagnostics.first().unwrap();
        assert_eq!((first.file.as_str(), first.severity.as_str()), ("a.cedar", "error"));
        assert!(first.line >= 1);
        assert!(
            check_here(&[PolicyFileDoc {
                name: "vouchsafe.cedar".into(),
                text: vouchsafe_policy::default_policy().text
            }])
            .ok
        );
    }
}
