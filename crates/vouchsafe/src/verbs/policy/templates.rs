//! `policy templates`: what grants are made from.

use vouchsafe_wire::api::TemplateDoc;

use super::show;
use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};

/// Shows one, or lists all.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Template whose text is shown.
    template: Option<String>,
}

pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let all: Vec<TemplateDoc> = AdminClient::open(call).await?.get("/v1/policy/templates").await?;
    let Some(name) = args.template else { return show(call, &all, |all| call.out.table(&table(all))) };
    let Some(template) = all.into_iter().find(|template| template.name == name) else {
        return Err(
            VerbError::failed(format!("there is no template `{name}`")).hint("see `vouchsafe policy templates`")
        );
    };
    show(call, &template, |template| {
        let TemplateDoc { name: _, file, reason: _, owner: _, expires: _, actions, text, digest, grants } = template;
        call.out.line(clean(text).trim())?;
        call.out.line("")?;
        call.out.facts(&[
            ("file", clean(file).into_owned()),
            ("permits", clean(&actions.join(", ")).into_owned()),
            ("grants", grants.to_string()),
            ("digest", clean(digest).into_owned()),
        ])
    })
}

fn table(all: &[TemplateDoc]) -> Table {
    let mut table = Table::new(&["name", "permits", "grants", "why…", "owner", "file"]);
    for template in all {
        table.row([
            Cell::new(Style::Bold, &template.name),
            template.actions.join(" ").into(),
            template.grants.to_string().into(),
            template.reason.as_deref().unwrap_or_default().into(),
            template.owner.as_deref().unwrap_or_default().into(),
            Cell::new(Style::Dim, &template.file),
        ]);
    }
    table
}
