//! `policy who-can` and `policy what-can`: rights over the real directory, with the conditions still
//! attached.

use std::io;

use http::Method;
use vouchsafe_model::action::Action;
use vouchsafe_model::name::UserName;
use vouchsafe_policy::{Rights, Way, WhatCan, WhoCan};

use crate::admin::{self, AdminClient};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Output, Style, clean};
use crate::text;
use crate::verbs::show;

/// Most names that are listed of users who can in the same way.
const MAX_NAMES: usize = 20;

/// Who can do something.
#[derive(Debug, clap::Args)]
pub(crate) struct WhoArgs {
    /// What is to be done, such as `http:read`.
    action: Action,
    /// To what; `console` is vouchsafe's own.
    resource: String,
    /// Lists every name.
    #[arg(long)]
    all: bool,
}

/// What somebody can do.
#[derive(Debug, clap::Args)]
pub(crate) struct WhatArgs {
    /// Who.
    user: UserName,
    /// On this device, by name or id; `none` for one that isn't proven [default: any].
    #[arg(long)]
    device: Option<String>,
}

pub(crate) async fn who(args: &WhoArgs, call: &Call) -> Result<Exit, VerbError> {
    let WhoArgs { action, resource, all } = args;
    let path = admin::path("/v1/policy/who-can?action=", &action.to_string(), "&resource=");
    let path = admin::path(&path, resource, "");
    let answer: WhoCan = AdminClient::open(call).await?.ask(Method::GET, &path).await?;
    show(call, &answer, |answer| tell_who(&call.out, answer, *all))
}

pub(crate) async fn what(args: &WhatArgs, call: &Call) -> Result<Exit, VerbError> {
    let WhatArgs { user, device } = args;
    let mut path = admin::path("/v1/policy/what-can?user=", user.as_str(), "");
    if let Some(device) = device {
        path = admin::path(&format!("{path}&device="), device, "");
    }
    let answer: WhatCan = AdminClient::open(call).await?.ask(Method::GET, &path).await?;
    show(call, &answer, |answer| tell_what(&call.out, answer))
}

fn tell_who(out: &Output, answer: &WhoCan, all: bool) -> io::Result<()> {
    let WhoCan { resource, action, policy_version, users, can } = answer;
    let count: usize = can.iter().map(|class| class.count).sum();
    let what = out.paint(Style::Bold, &clean(&format!("{action} on {resource}")));
    let version = out.paint(Style::Dim, &format!("policy version {policy_version}"));
    let mark = if count == 0 { out.paint(Style::Bad, "✗") } else { out.paint(Style::Good, "✓") };
    out.line(&format!("{mark} {what}: {count} of {users} users can  {version}"))?;
    for class in can {
        let shown = if all { class.users.len() } else { MAX_NAMES };
        let mut names: Vec<&str> = class.users.iter().take(shown).map(UserName::as_str).collect();
        let more = class.count.saturating_sub(names.len());
        let more = format!("… and {more} more");
        if class.count > names.len() {
            names.push(&more);
        }
        out.line("")?;
        for line in text::wrapped(&clean(&names.join(", ")), out.width()) {
            out.line(&out.paint(Style::Bold, &line))?;
        }
        rights(out, &class.rights)?;
    }
    Ok(())
}

fn tell_what(out: &Output, answer: &WhatCan) -> io::Result<()> {
    let WhatCan { user, device, policy_version, resources, can } = answer;
    let on = match device.as_deref() {
        None => String::new(),
        Some("none") => " without a proven device".to_owned(),
        Some(device) => format!(" on {device}"),
    };
    let reached: std::collections::BTreeSet<&str> = can.iter().map(|open| open.resource.as_str()).collect();
    let who = out.paint(Style::Bold, &clean(&format!("{user}{on}")));
    let version = out.paint(Style::Dim, &format!("policy version {policy_version}"));
    let mark = if can.is_empty() { out.paint(Style::Bad, "✗") } else { out.paint(Style::Good, "✓") };
    out.line(&format!("{mark} {who}: can reach {} of {resources} resources  {version}", reached.len()))?;
    for open in can {
        let kind = out.paint(Style::Dim, &clean(&open.kind));
        let name = out.paint(Style::Bold, &clean(&open.resource));
        out.line(&format!("\n{name}  {kind}  {}", clean(&open.actions.join(", "))))?;
        rights(out, &open.rights)?;
    }
    Ok(())
}

/// The policies that decide, and what each of them still asks for.
pub(super) fn rights(out: &Output, rights: &Rights) -> io::Result<()> {
    let Rights { ways, unless, may_fail } = rights;
    for way in ways {
        let demands = way.demands();
        let demands = if demands.is_empty() { "always".to_owned() } else { format!("only {}", demands.join("; ")) };
        line(out, Style::Good, "by", way, &demands)?;
    }
    for way in unless {
        let demands = way.demands();
        line(out, Style::Bad, "denied by", way, &format!("when {}", demands.join("; ")))?;
    }
    for way in may_fail {
        line(out, Style::Warn, "denied by", way, "should it fail, such as by an overflow")?;
    }
    Ok(())
}

fn line(out: &Output, style: Style, by: &str, way: &Way, demands: &str) -> io::Result<()> {
    let head = format!("{by} {}:", clean(way.policy.as_str()));
    let lines = text::wrapped(&format!("{head} {}", clean(demands)), out.width().saturating_sub(6));
    for (number, text) in lines.iter().enumerate() {
        match text.strip_prefix(&head) {
            Some(rest) if number == 0 => out.line(&format!("  {}{rest}", out.paint(style, &head)))?,
            _ if number == 0 => out.line(&format!("  {}", out.paint(style, text)))?,
            _ => out.line(&format!("      {text}"))?,
        }
    }
    Ok(())
}
