//! `audit verify`: whether the stored log, or one record of it, is what was signed. Needs no controller and no network.

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use vouchsafe_control::{Finding, Verification, Verified, verify_log};
use vouchsafe_tlog::evidence::{Evidence, MAX_EVIDENCE_BYTES};
use vouchsafe_tlog::note::{KeyKind, MAX_NOTE_BYTES, NoteError, VerifierKey};
use vouchsafe_wire::audit::Record;

use super::{line, tiles};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Style, clean};
use crate::text;
use crate::verbs::now;

/// What to verify, and by what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Verifier key of the log, as `audit key` shows it; keep it apart from the log.
    #[arg(long, value_name = "VKEY", value_parser = key)]
    key: Option<VerifierKey>,
    /// Checkpoint that was got before, to compare with; may be given several times.
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    checkpoint: Vec<PathBuf>,
    /// Verifier key of a witness that must have cosigned, as `witness key` shows it; may be given several times.
    #[arg(long, value_name = "VKEY", value_parser = witness, requires = "key")]
    witness: Vec<VerifierKey>,
    /// How many of the given witnesses must have cosigned [default: all of them].
    #[arg(long, value_name = "COUNT", requires = "witness", value_parser = clap::value_parser!(u8).range(1..))]
    quorum: Option<u8>,
    /// Proof file of one record, as `audit prove` makes it, instead of a whole log.
    #[arg(long, value_name = "FILE", requires = "key")]
    proof: Option<PathBuf>,
    /// Directory that `audit tiles` has written, instead of the controller's own files.
    #[arg(long, value_name = "DIR", requires = "key", conflicts_with_all = ["proof", "checkpoint"])]
    tiles: Option<PathBuf>,
}

fn key(text: &str) -> Result<VerifierKey, String> {
    VerifierKey::parse(text).map_err(|error| error.to_string())
}

fn witness(text: &str) -> Result<VerifierKey, String> {
    match VerifierKey::parse(text) {
        Ok(key) if key.kind() == KeyKind::Cosignature => Ok(key),
        Ok(_) => Err("it is the key of a log; `vouchsafe witness key` shows a witness's".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Verifies, and says what is wrong and where.
///
/// # Errors
/// [`VerbError`] when anything is wrong.
pub(crate) async fn run(args: Args, call: &Call) -> Result<Exit, VerbError> {
    let Args { key, checkpoint, witness, quorum, proof, tiles } = args;
    let quorum = quorum.map(usize::from);
    if quorum.is_some_and(|quorum| quorum > witness.len()) {
        return Err(VerbError::usage("`--quorum` is more than there are witnesses"));
    }
    if let (Some(path), Some(key)) = (&proof, &key) {
        return one(call, path, key, &witness, quorum);
    }
    if let (Some(dir), Some(key)) = (&tiles, &key) {
        let asked = tiles::Asked { dir: dir.clone(), key: key.clone(), witnesses: witness, quorum };
        return of_tiles(asked, call).await;
    }
    let read = |path: &PathBuf| small(path, MAX_NOTE_BYTES).map(|bytes| (path.display().to_string(), bytes));
    let checkpoints = checkpoint.iter().map(read).collect::<Result<_, _>>()?;
    let asked = Verification { dir: call.dir.clone(), key, checkpoints, witnesses: witness, quorum };
    let bar = progress(call);
    let shown = bar.clone();
    let work = tokio::task::spawn_blocking(move || {
        verify_log(&asked, &mut |done, all| {
            shown.set_length(all);
            shown.set_position(done);
        })
    });
    let verified = tokio::select! {
        verified = work => verified,
        interrupted = call.interrupted() => {
            bar.finish_and_clear();
            return interrupted.map(|()| Exit::Failed);
        }
    };
    bar.finish_and_clear();
    let verified = verified.map_err(|error| VerbError::of(Exit::Failed, &error))?.map_err(|error| {
        VerbError::of(Exit::Failed, &error)
            .hint("name the controller's state directory with --dir, and read it as its owner")
    })?;
    judged(call, &verified)
}

/// The same for files that `audit tiles` has written.
async fn of_tiles(asked: tiles::Asked, call: &Call) -> Result<Exit, VerbError> {
    let bar = progress(call);
    let shown = bar.clone();
    let work = tokio::task::spawn_blocking(move || tiles::verify(&asked, &shown));
    let verified = tokio::select! {
        verified = work => verified,
        interrupted = call.interrupted() => {
            bar.finish_and_clear();
            return interrupted.map(|()| Exit::Failed);
        }
    };
    bar.finish_and_clear();
    judged(call, &verified.map_err(|error| VerbError::of(Exit::Failed, &error))??)
}

fn judged(call: &Call, verified: &Verified) -> Result<Exit, VerbError> {
    tell(call, verified)?;
    if verified.holds() {
        return Ok(Exit::Ok);
    }
    let count = verified.findings.len() as u64 + verified.unlisted;
    Err(VerbError::failed(format!("the audit log is not what it was: {count} findings")).hint(
        "keep the files as they are, and compare them with a backup; the guide says how to go on (docs/guide/audit.md)",
    ))
}

fn tell(call: &Call, verified: &Verified) -> std::io::Result<()> {
    let out = &call.out;
    if out.is_json() {
        return out.json(&as_json(verified));
    }
    for finding in &verified.findings {
        out.line(&format!("{} {}", out.paint(Style::Bad, "✗"), words(finding)))?;
    }
    if verified.unlisted > 0 {
        out.line(&format!("  and {} more", verified.unlisted))?;
    }
    for note in &verified.notes {
        out.line(&format!("{} {}", out.paint(Style::Warn, "!"), clean(note)))?;
    }
    if verified.holds() {
        let Verified { records, covered, checkpoints, .. } = verified;
        let behind = match records - covered {
            0 => String::new(),
            behind => format!("; {behind} came since"),
        };
        let line = format!("{covered} records are those that were signed ({checkpoints} checkpoints){behind}");
        out.line(&format!("{} {line}", out.paint(Style::Good, "✓")))?;
    }
    if let Some((size, by)) = &verified.cosigned {
        let by: Vec<String> = by.iter().map(|(name, at)| cosigner(name, *at)).collect();
        out.line(&format!("{} {size} records are cosigned by {}", out.paint(Style::Good, "✓"), by.join(", ")))?;
    }
    let facts = [("root", &verified.root), ("key", &verified.key)];
    let facts: Vec<(&str, String)> =
        facts.into_iter().filter_map(|(name, value)| Some((name, clean(value.as_deref()?).into_owned()))).collect();
    out.facts(&facts)
}

/// A witness, and when it signed, by its clock.
fn cosigner(name: &str, at: u64) -> String {
    format!("{} ({})", clean(name), text::relative(at, now()))
}

fn words(finding: &Finding) -> String {
    let Finding { path, record, byte, words } = finding;
    let mut place = clean(&path.display().to_string()).into_owned();
    if let Some(record) = record {
        place.push_str(&format!(", record {record}"));
    }
    if let Some(byte) = byte {
        place.push_str(&format!(", byte {byte}"));
    }
    format!("{place}: {}", clean(words))
}

fn as_json(verified: &Verified) -> Value {
    let Verified { records, removed, covered, root, checkpoints, cosigned, findings, unlisted, notes, key } = verified;
    let cosigned = cosigned.as_ref().map(|(size, by)| json!({ "size": size, "by": cosigners(by) }));
    let findings: Vec<Value> = findings
        .iter()
        .map(|Finding { path, record, byte, words }| {
            json!({ "file": path, "record": record, "byte": byte, "words": words })
        })
        .collect();
    json!({
        "holds": verified.holds(),
        "records": records,
        "removed": removed,
        "covered": covered,
        "root": root,
        "checkpoints": checkpoints,
        "cosigned": cosigned,
        "key": key,
        "findings": findings,
        "unlisted": unlisted,
        "notes": notes,
    })
}

fn cosigners(by: &[(String, u64)]) -> Value {
    by.iter().map(|(name, at)| json!({ "name": name, "at": at })).collect()
}

/// Who of the witnesses has cosigned a checkpoint, and when; enough of them have.
fn cosigned(
    evidence: &Evidence,
    witnesses: &[VerifierKey],
    quorum: Option<usize>,
) -> Result<Vec<(String, u64)>, VerbError> {
    let mut by = Vec::new();
    for key in witnesses {
        match evidence.note.signed_at(key) {
            Ok((at, _)) => by.push((key.name().to_owned(), at)),
            Err(NoteError::Unsigned) => {}
            Err(error) => return Err(VerbError::of(Exit::Failed, &error)),
        }
    }
    let enough = quorum.unwrap_or(witnesses.len());
    if by.len() < enough {
        let words = format!("{} of the {enough} witnesses that must have cosigned it have", by.len());
        return Err(VerbError::failed(words).hint("get another proof when the witnesses answer: `vouchsafe audit key`"));
    }
    Ok(by)
}

/// Verifies the proof of one record, and shows the record.
fn one(
    call: &Call,
    path: &Path,
    key: &VerifierKey,
    witnesses: &[VerifierKey],
    quorum: Option<usize>,
) -> Result<Exit, VerbError> {
    let bytes = small(path, MAX_EVIDENCE_BYTES)?;
    let refused = |error: &(dyn std::error::Error + 'static)| {
        VerbError::of(Exit::Failed, error).hint("nothing that the file says is proven")
    };
    let evidence = Evidence::parse(&bytes).map_err(|error| refused(&error))?;
    let (record, checkpoint) = evidence.verify(key).map_err(|error| refused(&error))?;
    let by = cosigned(&evidence, witnesses, quorum)?;
    if call.out.is_json() {
        let read: Value = serde_json::from_slice(record).unwrap_or(Value::Null);
        call.out.json(&json!({
            "holds": true,
            "record": read,
            "position": evidence.index,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.to_string(),
            "cosigned_by": cosigners(&by),
        }))?;
        return Ok(Exit::Ok);
    }
    let out = &call.out;
    let line =
        format!("record {} of the {} that `{}` signed:", evidence.index, checkpoint.size, clean(&checkpoint.origin));
    out.line(&format!("{} {line}", out.paint(Style::Good, "✓")))?;
    if !by.is_empty() {
        let by: Vec<String> = by.iter().map(|(name, at)| cosigner(name, *at)).collect();
        out.line(&format!("{} cosigned by {}", out.paint(Style::Good, "✓"), by.join(", ")))?;
    }
    match Record::from_canonical(record) {
        Ok(record) => out.line(&line::of(out, &record))?,
        Err(_) => out.line(&clean(&String::from_utf8_lossy(record)))?,
    }
    Ok(Exit::Ok)
}

/// A file that isn't longer than what it should hold.
fn small(path: &Path, most: usize) -> Result<Vec<u8>, VerbError> {
    let unreadable = |why: String| VerbError::failed(format!("`{}` can't be read: {why}", path.display()));
    let found = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if found.len() > most as u64 {
        return Err(unreadable(format!("it is longer than {most} bytes")));
    }
    fs::read(path).map_err(|error| unreadable(error.to_string()))
}

fn progress(call: &Call) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if !call.out.reaches_a_person() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {bytes} of {total_bytes}  {elapsed}") {
        bar.set_style(style);
    }
    bar
}
