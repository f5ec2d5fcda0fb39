//! `webhook`: places that are told what happens.

use std::io::Read;
use std::path::PathBuf;

use clap::Subcommand;
use http::Method;
use vouchsafe_model::name::WebhookName;
use vouchsafe_wire::api::{NewWebhook, WebhookAdded, WebhookDoc, WebhookTried};

use super::{ago, done, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};

/// Longest address that is read.
const MAX_URL_BYTES: u64 = 4_096;

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Adds a place that is told what happens, and shows the secret that its messages are signed with.
    ///
    /// Messages are signed after the Standard Webhooks specification, and sent until they are taken, for three days.
    #[command(
        after_help = "Examples:\n  vouchsafe webhook add chat https://chat.example.org/hooks/vouchsafe --events request.created,policy.proposed\n  vouchsafe webhook add chat - < address.txt"
    )]
    Add {
        /// Name.
        name: WebhookName,
        /// Where to: https, or http to a loopback address. With `-` it is read from standard input: addresses of chat tools
        /// are often secrets.
        url: String,
        /// What it is told, such as `request.created` [default: everything].
        #[arg(long, value_name = "EVENT", value_delimiter = ',')]
        events: Vec<String>,
        /// PEM file of the roots that vouch for it [default: the public ones].
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
    /// Lists webhooks, and how the last message to each went.
    #[command(after_help = "Example:\n  vouchsafe webhook list")]
    List,
    /// Removes a webhook, with the messages that wait for it.
    #[command(after_help = "Example:\n  vouchsafe webhook remove chat")]
    Remove {
        /// Name.
        name: WebhookName,
    },
    /// Sends a message now, and says what came of it.
    #[command(after_help = "Example:\n  vouchsafe webhook test chat")]
    Test {
        /// Name.
        name: WebhookName,
    },
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    match verb {
        Verb::Add { name, url, events, ca_file } => {
            let url = if url == "-" { read_url()? } else { url };
            let unread = |error: std::io::Error| VerbError::usage("the roots can't be read").cause(error.to_string());
            let roots_pem = ca_file.map(std::fs::read_to_string).transpose().map_err(unread)?;
            let new = NewWebhook { name: name.to_string(), url, events, roots_pem };
            let added: WebhookAdded = AdminClient::open(call).await?.send(Method::POST, "/v1/webhooks", &new).await?;
            show(call, &added, |added| told(call, added))
        }
        Verb::List => {
            let all: Vec<WebhookDoc> = AdminClient::open(call).await?.get("/v1/webhooks").await?;
            show(call, &all, |all| call.out.table(&table(all)))
        }
        Verb::Remove { name } => {
            AdminClient::open(call).await?.delete(&path("/v1/webhooks/", name.as_str(), "")).await?;
            done(call, &format!("removed the webhook {name}"))
        }
        Verb::Test { name } => {
            let client = AdminClient::open(call).await?;
            let tried: WebhookTried = client.ask(Method::POST, &path("/v1/webhooks/", name.as_str(), "/test")).await?;
            show(call, &tried, |tried| {
                let (style, mark) = if tried.delivered { (Style::Good, "✓") } else { (Style::Bad, "✗") };
                call.out.line(&format!("{} {}", call.out.paint(style, mark), clean(&tried.outcome)))
            })?;
            Ok(if tried.delivered { Exit::Ok } else { Exit::Failed })
        }
    }
}

fn read_url() -> Result<String, VerbError> {
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_URL_BYTES).read_to_string(&mut text);
    read.map_err(|error| VerbError::usage("the address can't be read").cause(error.to_string()))?;
    Ok(text.trim().to_owned())
}

fn told(call: &Call, added: &WebhookAdded) -> std::io::Result<()> {
    let WebhookAdded { webhook, secret } = added;
    let out = &call.out;
    let mark = out.paint(Style::Good, "✓");
    out.line(&format!("{mark} {} is told what happens, at {}", clean(&webhook.name), clean(&webhook.origin)))?;
    out.line(&format!("\n  {}\n", out.paint(Style::Accent, &clean(secret))))?;
    out.note("  messages are signed with this secret, which is not shown again");
    Ok(())
}

fn table(all: &[WebhookDoc]) -> Table {
    let mut table = Table::new(&["name", "where", "events…", "last", "when", "waiting", "dropped"]);
    for webhook in all {
        let last = match (webhook.last.as_deref(), webhook.failures) {
            (None, _) => "–".into(),
            (Some(last), 0) => Cell::new(Style::Good, last),
            (Some(last), _) => Cell::new(Style::Bad, last),
        };
        let events = if webhook.events.is_empty() { "all".to_owned() } else { webhook.events.join(", ") };
        table.row([
            Cell::new(Style::Bold, &webhook.name),
            (&webhook.origin).into(),
            events.into(),
            last,
            ago(webhook.last_at).into(),
            webhook.waiting.to_string().into(),
            webhook.dropped.to_string().into(),
        ]);
    }
    table
}
