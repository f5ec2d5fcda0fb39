//! Where one HTTP/1.1 request ends and the next begins: a strict reading, before any HTTP library
//! sees a byte. Specification: `docs/spec/canonical-request.md`, part "Framing".
//!
//! HTTP libraries are lenient, each in its own way (bare LF, folded lines, `Content-Length` beside
//! `Transfer-Encoding`, chunk extensions), and what two of them read differently is how requests
//! are smuggled. [`Guard`] knows one grammar, the one that every sender of today writes (RFC 9112
//! without what it marks as obsolete), and lets nothing else through. Bytes pass unchanged; a head
//! passes only as a whole, so that the library behind the guard never sees half of one that is
//! refused.
//!
//! ```text
//! head ──▶ body by length ──▶ next head
//!      ├─▶ chunks ──▶ trailers ──▶ next head
//!      └─▶ held until answered ──▶ next head, or opaque bytes (CONNECT, Upgrade)
//! ```

mod chunk;
mod head;

use chunk::{Chunks, Stride};
use head::{Framed, HeadScan, Scan, TrailerScan};

/// How much of one message is looked at before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request head, bytes, its empty line included.
    pub head_bytes: usize,
    /// Most fields in a head, and in a trailer section.
    pub fields: usize,
    /// Longest trailer section, bytes, its empty line included.
    pub trailer_bytes: usize,
}

/// Which rule a message breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The head or the trailer section is longer than the limit.
    #[error("the head is too long")]
    TooLong,
    /// There are more fields than the limit.
    #[error("the head has too many fields")]
    TooManyFields,
    /// A line does not end in CR LF, or CR stands elsewhere.
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// The request line is not `method SP target SP version`.
    #[error("the request line is malformed")]
    RequestLine,
    /// The version is not `HTTP/1.1`.
    #[error("the version is not HTTP/1.1")]
    Version,
    /// A field has no colon, white space before it, or a name that is no token; or a line is folded.
    #[error("a field name is malformed")]
    FieldName,
    /// A field value has a control character.
    #[error("a field value has a control character")]
    FieldValue,
    /// `Content-Length` is not one plain decimal number, or is given twice.
    #[error("Content-Length is not one plain number")]
    ContentLength,
    /// `Transfer-Encoding` is not exactly `chunked`, or is given twice.
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    /// `Content-Length` and `Transfer-Encoding` in one head.
    #[error("Content-Length and Transfer-Encoding are both given")]
    TwoFramings,
    /// A body on a request that asks to change the protocol (CONNECT, Upgrade).
    #[error("a request for another protocol has a body")]
    BodyBeforeUpgrade,
    /// A chunk is not `1*HEXDIG CR LF data CR LF`. Extensions are refused: nobody uses them but to
    /// make two readers disagree.
    #[error("a chunk is malformed")]
    Chunk,
    /// A trailer field that would change how the message is read.
    #[error("a trailer field is not acceptable")]
    Trailer,
}

/// Where the message stood when the fault was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a head: nothing of this message has passed.
    Head,
    /// In a body or its trailers: the head has passed.
    Body,
}

/// What comes behind the bytes that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// More bytes are needed. What did not pass must be shown again, with more behind it.
    More,
    /// The last request that passed may change the protocol. Nothing passes until
    /// [`Guard::answered`] says whether it did.
    Answer,
    /// The connection is over: what comes now can't be trusted to be a request.
    Refused(Fault, Place),
}

/// What the guard says about the bytes that it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How many of them may pass.
    pub pass: usize,
    /// What comes behind them.
    pub next: Next,
}

/// What became of a request that asked to change the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It was: all that follows is opaque (RFC 9110 §7.8, §9.3.6).
    Switched,
    /// It was not: the next bytes are the next request.
    Stayed,
}

/// The state of one connection's requests.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    phase: Phase,
    heads: u64,
}

#[derive(Debug)]
enum Phase {
    Head(HeadScan),
    Length(u64),
    Chunks(Chunks),
    Trailers(TrailerScan),
    Held,
    Opaque,
    Refused(Fault, Place),
}

impl Guard {
    /// A guard at the beginning of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, phase: Phase::Head(HeadScan::default()), heads: 0 }
    }

    /// How many request heads have passed.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether everything passes unseen from here on.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        matches!(self.phase, Phase::Opaque)
    }

    /// Looks at bytes that begin where the last ones that passed ended. How the input is cut into
    /// calls changes nothing.
    pub fn inspect(&mut self, bytes: &[u8]) -> Seen {
        let mut pass = 0;
        loop {
            let rest = bytes.get(pass..).unwrap_or_default();
            match self.step(rest) {
                Step::Pass(0) => return Seen { pass, next: Next::More },
                Step::Pass(length) => pass += length,
                Step::Stop(next) => return Seen { pass, next },
            }
        }
    }

    /// Tells what became of the request after which [`Next::Answer`] was said. Without one, nothing
    /// happens.
    pub fn answered(&mut self, answered: Answered) {
        if matches!(self.phase, Phase::Held) {
            self.phase = match answered {
                Answered::Switched => Phase::Opaque,
                Answered::Stayed => Phase::Head(HeadScan::default()),
            };
        }
    }

    fn step(&mut self, rest: &[u8]) -> Step {
        match &mut self.phase {
            Phase::Head(scan) => match scan.scan(rest, &self.limits) {
                Scan::Complete(length, framed) => {
                    self.heads += 1;
                    self.phase = match framed {
                        Framed::Nothing | Framed::Length(0) => Phase::Head(HeadScan::default()),
                        Framed::Length(length) => Phase::Length(length),
                        Framed::Chunked => Phase::Chunks(Chunks::default()),
                        Framed::Upgrade => Phase::Held,
                    };
                    Step::Pass(length)
                }
                Scan::Partial => Step::Stop(Next::More),
                Scan::Fault(fault) => self.refuse(fault, Place::Head),
            },
            Phase::Length(left) => {
                let length = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(*left);
                *left -= length;
                if *left == 0 {
                    self.phase = Phase::Head(HeadScan::default());
                }
                Step::Pass(usize::try_from(length).unwrap_or(rest.len()))
            }
            Phase::Chunks(chunks) => match chunks.stride(rest) {
                Stride::Pass(length) => Step::Pass(length),
                Stride::Last(length) => {
                    self.phase = Phase::Trailers(TrailerScan::default());
                    Step::Pass(length)
                }
                Stride::Fault(0) => self.refuse(Fault::Chunk, Place::Body),
                // The good bytes in front pass first; the bad one is met again at the next step.
                Stride::Fault(length) => Step::Pass(length),
            },
            Phase::Trailers(scan) => match scan.scan(rest, &self.limits) {
                Scan::Complete(length, ()) => {
                    self.phase = Phase::Head(HeadScan::default());
                    Step::Pass(length)
                }
                Scan::Partial => Step::Stop(Next::More),
                Scan::Fault(fault) => self.refuse(fault, Place::Body),
            },
            Phase::Held => Step::Stop(Next::Answer),
            Phase::Opaque => Step::Pass(rest.len()),
            Phase::Refused(fault, place) => Step::Stop(Next::Refused(*fault, *place)),
        }
    }

    fn refuse(&mut self, fault: Fault, place: Place) -> Step {
        self.phase = Phase::Refused(fault, place);
        Step::Stop(Next::Refused(fault, place))
    }
}

enum Step {
    Pass(usize),
    Stop(Next),
}

#[cfg(test)]
mod tests;
