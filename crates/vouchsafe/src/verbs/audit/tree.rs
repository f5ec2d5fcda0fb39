//! `audit key`, `audit prove` and `audit fork`: what the controller says of its log's tree.

use std::io::Write as _;
use std::path::PathBuf;

use hyper::Method;
use vouchsafe_wire::api::{AuditFork, AuditLogState, AuditProof, AuditWitness};

use crate::admin::AdminClient;
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Output, Style, clean};
use crate::verbs::{ago, agreed, done, show};

const STATE: &str = "/v1/audit/log";

/// Shows by which key checkpoints are verified, and how far they are.
pub(super) async fn key(call: &Call, client: &AdminClient) -> Result<Exit, VerbError> {
    let state: AuditLogState = client.get(STATE).await?;
    show(call, &state, |state| tell(&call.out, state))
}

fn tell(out: &Output, state: &AuditLogState) -> std::io::Result<()> {
    let AuditLogState {
        origin,
        key,
        records,
        removed,
        hashed,
        signed,
        root,
        signed_at,
        cosigned,
        quorum,
        witnesses,
        trouble,
    } = state;
    let mut facts = vec![
        ("key", clean(key).into_owned()),
        ("origin", clean(origin).into_owned()),
        ("records", format!("{records}, of which {hashed} are hashed and {signed} are signed")),
    ];
    if *removed > 0 {
        facts.push(("removed", format!("the first {removed}, because they were old; their hashes are kept")));
    }
    facts.extend(signed_at.map(|at| ("signed", ago(Some(at)))));
    if let (Some(cosigned), Some(quorum)) = (cosigned, quorum) {
        facts.push(("cosigned", format!("{cosigned} records, by {quorum} of {} witnesses or more", witnesses.len())));
    }
    facts.extend(root.as_ref().map(|root| ("root", clean(root).into_owned())));
    out.facts(&facts)?;
    for AuditWitness { name, cosigned, cosigned_at, trouble, .. } in witnesses {
        let name = clean(name);
        let line = match (trouble, cosigned) {
            (Some(trouble), _) => format!("{} witness {name}: {}", out.paint(Style::Warn, "!"), clean(trouble)),
            (None, Some(size)) => {
                let when = ago(*cosigned_at);
                format!("{} witness {name}: {size} records, {when}", out.paint(Style::Good, "✓"))
            }
            (None, None) => format!("{} witness {name}: not asked yet", out.paint(Style::Dim, "·")),
        };
        out.line(&line)?;
    }
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
    let AuditProof { position, proof, cosigned_by, others } = client.get(&format!("{STATE}/proof?{query}")).await?;
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
    if !cosigned_by.is_empty() {
        let by: Vec<String> = cosigned_by.iter().map(|name| clean(name).into_owned()).collect();
        note.push_str(&format!(", cosigned by {}", by.join(", ")));
    }
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
