//! Witnesses: others, who put their names under checkpoints that continue what they saw before (C2SP `tlog-witness`).
//!
//! They are asked after a checkpoint is published, so none of them holds anything up. At a start they are asked *first*,
//! about the newest checkpoint that is known here: a log that was set back with all of its own places is noticed before a
//! second history of it is signed. Who doesn't answer then is not waited for any longer than a few seconds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderMap;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use vouchsafe_runtime::http_client;
use vouchsafe_runtime::spans::Endpoint;
use vouchsafe_tlog::checkpoint::Checkpoint;
use vouchsafe_tlog::hash::Hash;
use vouchsafe_tlog::note::{MAX_NOTE_BYTES, Note, NoteSignature, VerifierKey};
use vouchsafe_tlog::proof::{consistency, verify_consistency};
use vouchsafe_tlog::tree;
use vouchsafe_tlog::witness::AddCheckpoint;
use vouchsafe_wire::api::AuditWitness;

use super::{Checkpoints, Published, Trouble};
use crate::context::Context;
use crate::log::LogError;
use crate::store::blocking;

/// Longest time for all that is asked of one witness in a round.
const PATIENCE: Duration = Duration::from_secs(5);
/// Shortest time from one round to the next.
const PACE: Duration = Duration::from_secs(1);
/// How often it is looked whether one that failed is to be asked again.
const PERIOD: Duration = Duration::from_secs(2);
/// Pause after the first failure of a witness; it doubles with each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Requests in one round: the witness may know another size than it was thought to.
const ATTEMPTS: usize = 3;

/// One witness, as it was configured.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Where it is asked: what `add-checkpoint` stands below.
    pub endpoint: Endpoint,
    /// By what its cosignatures are verified.
    pub key: VerifierKey,
    /// Roots that vouch for its server, PEM; otherwise those of the public authorities.
    pub roots_pem: Option<String>,
}

/// All witnesses of an audit log.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    /// Each of them.
    pub list: Vec<Witness>,
    /// How many must have cosigned a checkpoint for it to count as cosigned.
    pub quorum: usize,
}

/// The witnesses, and how they stand.
pub(super) struct Circle {
    list: Vec<Asked>,
    quorum: usize,
    /// The checkpoint that cosignatures are being collected for.
    gathering: Mutex<Option<Published>>,
    /// Whether they were asked since the start.
    consulted: watch::Sender<bool>,
    /// Size of the newest checkpoint that enough of them cosigned.
    cosigned: watch::Sender<u64>,
}

struct Asked {
    witness: Arc<Witness>,
    standing: Mutex<Standing>,
}

/// How one witness stands.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Size of the newest checkpoint that it is thought to know.
    knows: Option<u64>,
    /// Size of the newest that it has cosigned, and when, by its clock.
    cosigned: Option<(u64, u64)>,
    /// Why it gave nothing when it was asked last.
    trouble: Option<String>,
    failures: u32,
    /// When it is asked again.
    due: Option<Instant>,
}

/// What a witness says.
enum Answer {
    Cosigned(NoteSignature, u64),
    /// It knows a checkpoint with more records than we have signed.
    KnowsMore(u64),
    /// It knows other records among so many first ones.
    KnowsOther(u64),
    /// Nothing that counts.
    Nothing(String),
}

impl Circle {
    pub(super) fn new(Witnesses { list, quorum }: Witnesses) -> Self {
        let consulted = watch::Sender::new(list.is_empty());
        let quorum = quorum.clamp(1, list.len().max(1));
        let asked = |witness| Asked { witness: Arc::new(witness), standing: Mutex::default() };
        let list = list.into_iter().map(asked).collect();
        Self { list, quorum, gathering: Mutex::default(), consulted, cosigned: watch::Sender::new(0) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether checkpoints may be signed: all were asked, or there are none.
    pub(super) fn is_consulted(&self) -> bool {
        *self.consulted.borrow()
    }

    /// How many must have cosigned.
    pub(super) const fn quorum(&self) -> usize {
        self.quorum
    }

    /// Names of those whose cosignature a note bears.
    pub(super) fn signed(&self, note: &Note) -> Vec<String> {
        let keys = self.list.iter().map(|asked| &asked.witness.key);
        keys.filter(|key| note.signed_at(key).is_ok()).map(|key| key.name().to_owned()).collect()
    }

    /// Whether enough of them have cosigned it.
    pub(super) fn suffices(&self, note: &Note) -> bool {
        !self.list.is_empty() && self.signed(note).len() >= self.quorum
    }

    /// Notes a cosigned checkpoint.
    pub(super) fn tell(&self, size: u64) {
        self.cosigned.send_replace(size);
    }

    /// Waits until one that covers that many records is cosigned by enough.
    pub(super) async fn covered(&self, records: u64) {
        let mut cosigned = self.cosigned.subscribe();
        // Its sender is ours.
        let _ = cosigned.wait_for(|size| *size >= records).await;
    }

    /// What was known of another log counts for nothing.
    pub(super) fn forget(&self) {
        *self.gathering.lock() = None;
        self.list.iter().for_each(|asked| *asked.standing.lock() = Standing::default());
        self.cosigned.send_replace(0);
    }

    /// How each of them stands.
    pub(super) fn describe(&self) -> Vec<AuditWitness> {
        let describe = |asked: &Asked| {
            let standing = asked.standing.lock().clone();
            AuditWitness {
                name: asked.witness.key.name().to_owned(),
                key: asked.witness.key.to_string(),
                url: asked.witness.endpoint.to_string(),
                cosigned: standing.cosigned.map(|(size, _)| size),
                cosigned_at: standing.cosigned.map(|(_, at)| at),
                trouble: standing.trouble,
            }
        };
        self.list.iter().map(describe).collect()
    }

    /// How many gave nothing when they were asked last.
    pub(super) fn silent(&self) -> usize {
        self.list.iter().filter(|asked| asked.standing.lock().trouble.is_some()).count()
    }
}

/// Asks each once, about the newest checkpoint that is known here, or about the tree without records: whoever knows more
/// says so. Nothing is signed before.
pub(super) async fn consult(context: &Context) {
    let checkpoints = &context.checkpoints;
    if checkpoints.witnesses.is_consulted() {
        return;
    }
    let published = checkpoints.published();
    let question = published.as_deref().cloned().unwrap_or_else(|| checkpoints.nothing());
    tokio::select! {
        () = ask_all(context, &question) => {}
        () = context.tasks.draining() => return,
    }
    checkpoints.witnesses.consulted.send_replace(true);
}

/// Goes on until the drain.
pub(super) async fn run(context: Context) {
    let checkpoints = Arc::clone(&context.checkpoints);
    let mut published = checkpoints.published.subscribe();
    let mut consulted = checkpoints.witnesses.consulted.subscribe();
    tokio::select! {
        _ = consulted.wait_for(|done| *done) => {}
        () = context.tasks.draining() => return,
    }
    loop {
        published.borrow_and_update();
        let newest = checkpoints.published();
        if let Some(newest) = newest.filter(|_| checkpoints.trouble().is_none()) {
            tokio::select! {
                () = ask_all(&context, &newest) => {}
                () = context.tasks.draining() => return,
            }
        }
        tokio::select! {
            _ = published.changed() => {}
            () = tokio::time::sleep(PERIOD) => {}
            () = context.tasks.draining() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PACE) => {}
            () = context.tasks.draining() => return,
        }
    }
}

/// One round: asks all who are due and haven't cosigned it, and takes in what they say.
async fn ask_all(context: &Context, question: &Published) {
    let checkpoints = &context.checkpoints;
    let circle = &checkpoints.witnesses;
    let has = |asked: &Asked| {
        let gathering = circle.gathering.lock();
        let same = gathering.as_ref().filter(|one| one.note.text() == question.note.text());
        same.is_some_and(|one| one.note.signed_at(&asked.witness.key).is_ok())
    };
    let now = Instant::now();
    let is_due = |asked: &&Asked| asked.standing.lock().due.is_none_or(|due| due <= now) && !has(asked);
    let due: Vec<&Asked> = circle.list.iter().filter(is_due).collect();
    if due.is_empty() {
        return;
    }
    let answers = join_all(due.iter().map(|asked| async {
        match tokio::time::timeout(PATIENCE, ask(context, asked, question)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Nothing(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }))
    .await;
    let mut signatures = Vec::new();
    for (asked, answer) in due.into_iter().zip(answers) {
        let name = asked.witness.key.name();
        let place = || format!("the witness `{name}`");
        let trouble = match answer {
            Answer::Cosigned(signature, at) => {
                asked.took(question.checkpoint.size, at);
                signatures.push(signature);
                continue;
            }
            Answer::KnowsMore(known) => Trouble::SetBack { known, found: question.checkpoint.size, place: place() },
            Answer::KnowsOther(size) => Trouble::Differs { size, place: place() },
            Answer::Nothing(why) => {
                asked.failed(why);
                continue;
            }
        };
        asked.failed(trouble.words().0);
        checkpoints.stop(trouble).await;
    }
    if !signatures.is_empty() {
        gather(context, question, signatures).await;
    }
}

/// Puts signatures under the checkpoint; when they are enough, it is kept and shown.
async fn gather(context: &Context, question: &Published, signatures: Vec<NoteSignature>) {
    let checkpoints = &context.checkpoints;
    let gathered = {
        let mut gathering = checkpoints.witnesses.gathering.lock();
        let same = gathering.take().filter(|one| one.note.text() == question.note.text());
        let mut gathered = same.unwrap_or_else(|| question.clone());
        signatures.into_iter().for_each(|signature| gathered.note.add(signature));
        *gathering = Some(gathered.clone());
        gathered
    };
    if gathered.checkpoint.size == 0 {
        return;
    }
    let suffices = checkpoints.witnesses.suffices(&gathered.note);
    if suffices && let Err(error) = checkpoints.places.keep_cosigned(&gathered).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "a cosigned checkpoint can't be kept");
    }
    let size = gathered.checkpoint.size;
    let gathered = Arc::new(gathered);
    let mut state = checkpoints.state.write();
    // A log that was begun anew meanwhile has nothing to do with it.
    if state.signer.verifier().name() != gathered.checkpoint.origin {
        return;
    }
    if state.published.as_ref().is_some_and(|newest| newest.note.text() == gathered.note.text()) {
        state.published = Some(Arc::clone(&gathered));
    }
    if suffices {
        state.cosigned = Some(gathered);
        drop(state);
        checkpoints.witnesses.tell(size);
    }
}

impl Asked {
    fn took(&self, size: u64, at: u64) {
        let mut standing = self.standing.lock();
        if standing.trouble.is_some() {
            tracing::info!(witness = self.witness.key.name(), "the witness cosigns again");
        }
        *standing = Standing { knows: Some(size), cosigned: Some((size, at)), ..Standing::default() };
    }

    fn failed(&self, why: String) {
        let mut standing = self.standing.lock();
        // Told once, not at each new attempt.
        if standing.trouble.as_ref() != Some(&why) {
            tracing::warn!(
                witness = self.witness.key.name(),
                why,
                "a witness gives no cosignature; checkpoints go without it"
            );
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << standing.failures.min(10)).min(LONGEST_PAUSE);
        standing.failures = standing.failures.saturating_add(1);
        standing.due = Some(Instant::now() + pause);
        standing.trouble = Some(why);
    }
}

/// Asks one witness, again from the size that it knows where that is another than was thought.
async fn ask(context: &Context, asked: &Asked, question: &Published) -> Answer {
    let size = question.checkpoint.size;
    let mut old = asked.standing.lock().knows.filter(|known| *known <= size).unwrap_or(size);
    for _ in 0..ATTEMPTS {
        let proof = match proof(context, old, question).await {
            Ok(Some(proof)) => proof,
            Ok(None) => return Answer::Nothing("the hashes here do not lead to the checkpoint".to_owned()),
            Err(error) => return Answer::Nothing(causes(&error)),
        };
        let request = AddCheckpoint { old, proof, note: question.note.clone() };
        let (status, body) = match post(context, &asked.witness, &request).await {
            Ok(answered) => answered,
            Err(why) => return Answer::Nothing(why),
        };
        match status {
            StatusCode::OK => return cosignature(&asked.witness.key, question, &body),
            StatusCode::CONFLICT => {
                let Some(known) = std::str::from_utf8(&body).ok().and_then(|text| text.trim_end().parse().ok()) else {
                    return Answer::Nothing("it knows another size, and doesn't say which".to_owned());
                };
                asked.standing.lock().knows = Some(known);
                // What was published meanwhile may have come to it by others.
                let newest = context.checkpoints.published().map_or(0, |newest| newest.checkpoint.size);
                if known > newest.max(size) {
                    return Answer::KnowsMore(known);
                }
                if known > size {
                    return Answer::Nothing("it knows a newer checkpoint already".to_owned());
                }
                if known == old {
                    // It knows that size, and not this tree of it.
                    return match known == size && size > 0 {
                        true => Answer::KnowsOther(size),
                        false => Answer::Nothing("it contradicts itself".to_owned()),
                    };
                }
                old = known;
            }
            // The proof was verified here.
            StatusCode::UNPROCESSABLE_ENTITY if old > 0 => return Answer::KnowsOther(old),
            StatusCode::NOT_FOUND => {
                return Answer::Nothing(
                    "it doesn't know this log; give it the key that `vouchsafe audit key` shows".to_owned(),
                );
            }
            StatusCode::FORBIDDEN => return Answer::Nothing("it knows this log by another key".to_owned()),
            other => return Answer::Nothing(format!("it answered {}", other.as_u16())),
        }
    }
    Answer::Nothing("it says another size each time".to_owned())
}

/// The proof from `old` on, when it leads to the checkpoint.
async fn proof(context: &Context, old: u64, question: &Published) -> Result<Option<Vec<Hash>>, LogError> {
    let Checkpoint { size, root, .. } = question.checkpoint;
    if old == 0 || old == size {
        return Ok(Some(Vec::new()));
    }
    let checkpoints = Arc::clone(&context.checkpoints);
    let proven = blocking(move || {
        let levels = checkpoints.merkle.levels();
        let (before, proof) = (tree::root(levels, old)?, consistency(levels, old, size)?);
        Ok(verify_consistency(old, &before, size, &root, &proof).is_ok().then_some(proof))
    });
    proven.await.unwrap_or(Ok(None))
}

async fn post(
    context: &Context,
    Witness { endpoint, roots_pem, .. }: &Witness,
    request: &AddCheckpoint,
) -> Result<(StatusCode, Bytes), String> {
    let body = Bytes::from(request.to_string());
    let place = endpoint.below("add-checkpoint");
    let (headers, roots) = (HeaderMap::new(), roots_pem.as_deref());
    let sent = place.post("text/plain; charset=utf-8", &headers, body, roots, &context.tasks);
    let response = sent.await.map_err(|error| causes(&error))?;
    let status = response.status();
    let body = http_client::collect(response.into_body(), MAX_NOTE_BYTES).await.map_err(|error| causes(&error))?;
    Ok((status, body))
}

/// The signature of that key among what was answered, if it is right.
fn cosignature(key: &VerifierKey, question: &Published, body: &[u8]) -> Answer {
    let lines = std::str::from_utf8(body).ok().and_then(|text| NoteSignature::parse_lines(text).ok());
    let Some(lines) = lines else { return Answer::Nothing("what it answered is no signature".to_owned()) };
    let mut note = Note::new(question.note.text().to_owned());
    // Other keys of it are nobody's we know.
    lines.into_iter().for_each(|line| note.add(line));
    match note.signed_at(key) {
        Ok((at, signature)) => Answer::Cosigned(signature.clone(), at),
        Err(error) => Answer::Nothing(format!("its cosignature doesn't count: {error}")),
    }
}

impl Checkpoints {
    /// A checkpoint of the tree without records, which contradicts none.
    fn nothing(&self) -> Published {
        let signer = Arc::clone(&self.state.read().signer);
        let origin = signer.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size: 0, root: Hash::of_nothing(), extension: String::new() };
        Published { note: checkpoint.sign(&signer), checkpoint }
    }

    /// The newest checkpoint that enough witnesses have cosigned.
    pub(crate) fn cosigned(&self) -> Option<Arc<Published>> {
        self.state.read().cosigned.clone()
    }
}

/// An error and its causes in one line of bounded length.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ").chars().take(200).collect()
}

impl fmt::Debug for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circle").field("witnesses", &self.list.len()).field("quorum", &self.quorum).finish()
    }
}
