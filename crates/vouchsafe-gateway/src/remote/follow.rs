//! What the controller tells, in the order in which it comes: checked, and turned into what the gateway does
//! about it. No I/O, and no clock of its own.

use std::collections::VecDeque;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use bytes::Bytes;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_model::resource::Endpoint;
use vouchsafe_runtime::link::codec::{self, SnapshotError};
use vouchsafe_runtime::link::{Change, Delta, MAX_KEPT_CHECKPOINTS, Snapshot};
use vouchsafe_wire::control::message::{
    self, AnswerKind, Deltas, Down, DownKind, Hello, Ping, Pong, SignedSnapshot, Up, UpKind, era_of,
};
use vouchsafe_wire::control::{LEASES, VERSION, signed_bytes};

/// Pings that may wait for their answers; older ones are not believed any more.
const MAX_PINGS: usize = 16;
/// Longest checkpoint that is kept, bytes: a note with a signature of each of sixteen witnesses is a quarter of that.
const MAX_CHECKPOINT_BYTES: usize = 16 * 1024;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Told {
    /// Facts ceased to be true.
    Changed(Vec<Delta>),
    /// A new snapshot is in force.
    Snapshot(Box<Snapshot>),
    /// The stream has begun: how long a sign of life lasts.
    Welcome(Duration),
    /// Everything here is as the controller had it at that moment, counted from the machine's start.
    Heard(Duration),
    /// The list of gateways for connectors.
    Roster(Bytes),
    /// The checkpoints to keep: the newest of each audit log.
    Checkpoints(Vec<Bytes>),
    /// The audit log of the controller has fewer records than it had.
    AuditLogShrank { known: u64, given: u64 },
    /// An answer.
    Answer(u64, Option<AnswerKind>),
    /// Nothing.
    Nothing,
}

/// Why this stream can't be followed any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Something is missing; the next stream begins anew.
    #[error("the control channel has a gap: row {expected} was expected, but {given} came")]
    Gap { expected: u64, given: u64 },
    /// Somebody plays back what was, or the controller's state is that of an older backup.
    #[error(
        "a snapshot was refused because it is older ({given}) than one that was in force here ({highest}); if the \
         controller was restored from a backup, let this gateway join anew"
    )]
    Replayed { highest: u64, given: u64 },
    /// The same, where numbers have risen past those that were seen since.
    #[error(
        "a snapshot was refused because its history isn't the one that was in force here ({highest}); if the \
         controller was restored from a backup, let this gateway join anew"
    )]
    OtherHistory { highest: u64 },
    /// It is not the controller's.
    #[error("a snapshot was refused because its signature is not the controller's")]
    Signature,
    /// It can't be used.
    #[error("a snapshot was refused")]
    Snapshot(#[from] SnapshotError),
    /// The first message is none, or one comes twice.
    #[error("the controller doesn't keep to the protocol")]
    Protocol,
}

/// How far a gateway has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Number of the highest snapshot that was in force.
    pub(super) highest: u64,
    /// Id of its era; empty as long as no controller said one.
    pub(super) era: Bytes,
}

/// Follows one controller, from stream to stream.
pub(super) struct Follower {
    key: Vec<u8>,
    domain: BaseDomain,
    /// Highest snapshot that was ever in force here, also before a restart.
    highest: u64,
    /// Id of its era.
    era: Bytes,
    /// Snapshot that is in force; 0 for none.
    snapshot: u64,
    /// Last row of the change feed that is in force; 0 to begin anew.
    last: u64,
    welcomed: bool,
    /// Nonces of pings, and when they were sent, counted from the machine's start.
    pings: VecDeque<(u64, Duration)>,
    nonce: u64,
    /// Where connectors reach this gateway.
    addresses: Vec<String>,
    /// Checkpoints of audit logs that are kept, the newest last.
    checkpoints: Vec<Kept>,
}

/// A checkpoint as the controller told it. Whether its key has signed it, the controller says when it hears of it again.
struct Kept {
    origin: String,
    size: u64,
    note: Bytes,
}

impl Kept {
    /// Reads whose it is and how large; nothing when it is none.
    fn read(note: &Bytes) -> Option<Self> {
        let text = std::str::from_utf8(note).ok().filter(|text| text.len() <= MAX_CHECKPOINT_BYTES)?;
        let mut lines = text.lines();
        let origin = lines.next().filter(|origin| !origin.is_empty())?.to_owned();
        Some(Self { origin, size: lines.next()?.parse().ok()?, note: note.clone() })
    }
}

impl Follower {
    pub(super) fn new(key: Vec<u8>, domain: BaseDomain, Seen { highest, era }: Seen) -> Self {
        Self {
            key,
            domain,
            highest,
            era,
            snapshot: 0,
            last: 0,
            welcomed: false,
            pings: VecDeque::new(),
            nonce: 0,
            addresses: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// Goes on from the checkpoints that were kept before.
    pub(super) fn keeping(mut self, notes: &[Bytes]) -> Self {
        self.checkpoints = notes.iter().take(MAX_KEPT_CHECKPOINTS).filter_map(Kept::read).collect();
        self
    }

    /// Says where connectors reach this gateway.
    pub(super) fn announcing(mut self, addresses: &[Endpoint]) -> Self {
        self.addresses = addresses.iter().map(ToString::to_string).collect();
        self
    }

    /// Begins a stream.
    pub(super) fn hello(&mut self) -> Up {
        self.welcomed = false;
        self.pings.clear();
        let hello = Hello {
            versions: vec![VERSION],
            last_sequence: self.last,
            snapshot_sequence: self.snapshot,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            era: if self.snapshot == 0 { Bytes::new() } else { self.era.clone() },
            addresses: self.addresses.clone(),
            checkpoints: self.notes(),
        };
        Up { kind: Some(UpKind::Hello(hello)) }
    }

    /// Asks for a sign of life, and tells which connectors are attached.
    pub(super) fn ping(&mut self, now: Duration, connectors: Vec<message::AttachedConnector>) -> Up {
        self.nonce += 1;
        if self.pings.len() >= MAX_PINGS {
            self.pings.pop_front();
        }
        self.pings.push_back((self.nonce, now));
        Up { kind: Some(UpKind::Ping(Ping { nonce: self.nonce, sequence: self.last, connectors })) }
    }

    /// Takes in one message. After a fault the stream must be given up, and everything be forgotten where it
    /// is a gap.
    pub(super) fn handle(&mut self, down: Down) -> Result<Told, Fault> {
        // A kind of a later version, which may be skipped.
        let Some(kind) = down.kind else { return Ok(Told::Nothing) };
        if let DownKind::Welcome(welcome) = kind {
            let first = !std::mem::replace(&mut self.welcomed, true);
            let lease = Duration::from_millis(welcome.lease_ms);
            let good = first && welcome.version == VERSION && LEASES.contains(&lease);
            return if good { Ok(Told::Welcome(lease)) } else { Err(Fault::Protocol) };
        }
        if !self.welcomed {
            return Err(Fault::Protocol);
        }
        match kind {
            DownKind::Welcome(_) => Err(Fault::Protocol),
            DownKind::Snapshot(signed) => self.snapshot(&signed),
            DownKind::Deltas(deltas) => self.deltas(&deltas),
            DownKind::Pong(pong) => self.pong(&pong),
            DownKind::Roster(roster) => Ok(Told::Roster(roster)),
            DownKind::Checkpoint(note) => Ok(self.checkpoint(&note)),
            DownKind::Answer(answer) => Ok(Told::Answer(answer.call, answer.kind)),
        }
    }

    /// Keeps the newest of each log; one with fewer records than were told before is not kept.
    fn checkpoint(&mut self, note: &Bytes) -> Told {
        let Some(told) = Kept::read(note) else { return Told::Nothing };
        if let Some(known) = self.checkpoints.iter().find(|known| known.origin == told.origin) {
            if known.size > told.size {
                return Told::AuditLogShrank { known: known.size, given: told.size };
            }
            if known.size == told.size {
                return Told::Nothing;
            }
        }
        self.checkpoints.retain(|known| known.origin != told.origin);
        if self.checkpoints.len() >= MAX_KEPT_CHECKPOINTS {
            self.checkpoints.remove(0);
        }
        self.checkpoints.push(told);
        Told::Checkpoints(self.notes())
    }

    fn notes(&self) -> Vec<Bytes> {
        self.checkpoints.iter().map(|kept| kept.note.clone()).collect()
    }

    fn snapshot(&mut self, signed: &SignedSnapshot) -> Result<Told, Fault> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.key);
        key.verify(&signed_bytes(&signed.payload), &signed.signature).map_err(|_| Fault::Signature)?;
        let (snapshot, eras) = codec::read_snapshot(&signed.payload, &self.domain)?;
        if snapshot.sequence < self.highest {
            return Err(Fault::Replayed { highest: self.highest, given: snapshot.sequence });
        }
        // Only who has lived through it knows the era of what was in force here.
        let era_of = |sequence| era_of(&eras, sequence).cloned().unwrap_or_default();
        if !self.era.is_empty() && era_of(self.highest) != self.era {
            return Err(Fault::OtherHistory { highest: self.highest });
        }
        self.era = era_of(snapshot.sequence);
        self.highest = snapshot.sequence;
        self.snapshot = snapshot.sequence;
        Ok(Told::Snapshot(Box::new(snapshot)))
    }

    fn deltas(&mut self, deltas: &Deltas) -> Result<Told, Fault> {
        let Deltas { after, through, changes, everything } = deltas;
        if *everything {
            self.last = *through;
            let everything = Delta { sequence: *through, change: Change::Everything, outcome: None };
            return Ok(Told::Changed(vec![everything]));
        }
        if *after != self.last || through < after {
            return Err(self.gap(*after));
        }
        self.last = *through;
        let delta = |change| codec::read_change(change, *after, *through);
        Ok(Told::Changed(changes.iter().map(delta).collect()))
    }

    fn pong(&mut self, pong: &Pong) -> Result<Told, Fault> {
        if pong.sequence != self.last {
            return Err(self.gap(pong.sequence));
        }
        // Answers come in the order of the questions.
        while let Some((nonce, asked)) = self.pings.pop_front() {
            if nonce == pong.nonce {
                return Ok(Told::Heard(asked));
            }
        }
        Ok(Told::Nothing)
    }

    fn gap(&mut self, given: u64) -> Fault {
        let expected = std::mem::take(&mut self.last);
        Fault::Gap { expected, given }
    }

    /// Highest snapshot that was ever in force here.
    pub(super) fn seen(&self) -> Seen {
        Seen { highest: self.highest, era: self.era.clone() }
    }
}

#[cfg(test)]
mod tests;
