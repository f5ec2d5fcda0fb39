//! `audit key`, `audit prove` and `audit fork`: what the controller says of its log's tree.

use std::io::Write as _;
use std::path::PathBuf;

use hyper::Method;
use vouchsafe_wire::api::{AuditFork, AuditLogState, AuditProof};

use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Output, Style, clean};
use crate::verbs::{agreed, done, show};

const STATE: &str = "/v1/audit/log";

/// Shows by which key checkpoints are verified, and how far they are.
pub(super) async fn key(call: &Call, client: &AdminClient) -> Result<Exit, VerbError> {
    let state: AuditLogState = client.get(STATE).await?;
    show(call, &state, |state| tell(&call.out, state))
}

fn tell(out: &Output, state: &AuditLogState) -> std::io::Result<()> {
    let AuditLogState { origin, key, records, removed, hashed, signed, root, trouble } = state;
    let mut facts = vec![
        ("key", clean(key).into_owned()),
        ("origin", clean(origin).into_owned()),
        ("records", format!("{records}, of which {hashed} are hashed and {signed} are signed")),
    ];
    if *removed > 0 {
        facts.push(("removed", format!("the first {removed}, because they were old; their hashes are kept")));
    }
    facts.extend(root.as_ref().map(|root| ("root", clean(root).into_owned())));
    out.facts(&facts)?;
    if let Some(trouble) = trouble {
        out.line(&format!("{} {}", out.paint(Style::Bad, "✗"), clean(&trouble.words)))?;
        out.line(&out.paint(Style::Dim, &format!("hint: {}", clean(&trouble.hint))))?;
    }
    Ok(())
}

/// Gets a proof of one record, and writes it to a file or to standard output.
pub(super) async fn prove(
    call: &Call,
    client: &AdminClient,
    record: &str,
    to: Option<PathBuf>,
) -> Result<Exit, VerbError> {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("record", record).finish();
    let AuditProof { position, proof, others } = client.get(&format!("{STATE}/proof?{query}")).await?;
    match &to {
        None => call.out.raw(proof.as_bytes())?,
        Some(path) => {
            let written = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .and_then(|mut file| file.write_all(proof.as_bytes()));
            written.map_err(|error| {
                VerbError::failed(format!("`{}` can't be written: {error}", path.display()))
                    .hint("a file that exists is left as it is")
            })?;
        }
    }
    let mut note = format!("record {position}");
    if !others.is_empty() {
        let list: Vec<String> = others.iter().take(10).map(ToString::to_string).collect();
        note.push_str(&format!(
            "; {} more have this id, each proven by its position: {}",
            others.len(),
            list.join(", ")
        ));
    }
    call.out.note(&note);
    Ok(Exit::Ok)
}

/// Begins a new log.
pub(super) async fn fork(call: &Call, client: &AdminClient, reason: String, yes: bool) -> Result<Exit, VerbError> {
    agreed(call, yes, "Begin a new audit log? Whoever verifies the old one has to be told its new key.")?;
    let state: AuditLogState = client.send(Method::POST, &format!("{STATE}/fork"), &AuditFork { reason }).await?;
    done(call, &format!("began the audit log `{}`; its key is {}", state.origin, state.key))
}
