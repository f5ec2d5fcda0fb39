//! Syslog (RFC 5424) over TLS (RFC 5425): each message with its length in front.

use std::time::{Duration, Instant};

use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use vouchsafe_model::moment;
use vouchsafe_runtime::clock;
use vouchsafe_wire::audit::Record;
use vouchsafe_wire::ocsf::{self, Severity};

use super::run::Batch;
use super::settled::Written;
use super::target::Target;
use crate::context::Context;

/// Time after which a connection is given up whose other side answers nothing of what was sent.
pub(super) const UNANSWERED: Duration = Duration::from_secs(20);
/// Longest time until the other side says that it got all.
const FAREWELL: Duration = Duration::from_secs(2);
/// Facility 13, log audit (RFC 5424 §6.2.1).
const FACILITY: u8 = 13;
/// `sequenceId` counts up to this, and begins again with 1 (RFC 5424 §7.3.1).
const MAX_SEQUENCE: u64 = 2_147_483_647;
/// Longest PROCID.
const MAX_PROCID: usize = 128;

/// A connection to a receiver of syslog.
pub(super) struct Receiver {
    from_it: ReadHalf<TlsStream<TcpStream>>,
    to_it: WriteHalf<TlsStream<TcpStream>>,
    written: Written,
    host: String,
}

impl Receiver {
    /// Connects. Everything before `next` was taken earlier.
    pub(super) async fn connect(target: &Target, context: &Context, next: u64) -> Result<Self, String> {
        let tcp = target.tcp().await?;
        let milliseconds = u32::try_from(UNANSWERED.as_millis()).unwrap_or(u32::MAX);
        set_tcp_user_timeout(&tcp, milliseconds)
            .map_err(|error| format!("the connection can't be bounded: {error}"))?;
        let (from_it, to_it) = tokio::io::split(target.tls(tcp).await?);
        Ok(Self { from_it, to_it, written: Written::from(next), host: context.settings.domain.to_string() })
    }

    /// Sends a batch.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), String> {
        let mut bytes = Vec::new();
        for (position, record, body) in &batch.records {
            push(&mut bytes, &message(&self.host, *position, record, body));
        }
        let length = bytes.len() as u64;
        self.write(bytes).await?;
        self.written.note(batch.next, length, Instant::now());
        Ok(())
    }

    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        let Self { from_it, to_it, .. } = self;
        let write = async {
            to_it.write_all(&bytes).await?;
            to_it.flush().await
        };
        tokio::select! {
            written = write => written.map_err(|error| format!("it takes nothing more: {error}")),
            why = closed(from_it) => Err(why),
        }
    }

    /// Position before which everything is taken.
    pub(super) fn settled(&mut self) -> u64 {
        self.written.settled(Instant::now())
    }

    /// Comes back when the other side has ended it, with why.
    pub(super) async fn broken(&mut self) -> String {
        closed(&mut self.from_it).await
    }

    /// Ends it, and waits until the other side says that it got all; gives the position before which everything is taken.
    pub(super) async fn finish(mut self) -> u64 {
        match tokio::time::timeout(FAREWELL, self.farewell()).await {
            Ok(Ok(())) => self.written.all_taken(),
            Ok(Err(_)) | Err(_) => self.settled(),
        }
    }

    /// RFC 5425 §4.4: who gets `close_notify` answers it, and so has read what was before.
    async fn farewell(&mut self) -> Result<(), String> {
        self.to_it.shutdown().await.map_err(|error| error.to_string())?;
        let mut buffer = [0; 1_024];
        loop {
            match self.from_it.read(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(format!("it ended the connection: {error}")),
            }
        }
    }

    /// Sends a message that is no record. A certificate of ours that it doesn't want shows only when it is read from.
    pub(super) async fn try_out(mut self) -> Result<(), String> {
        let severity = Severity::Informational.syslog();
        let header = header(severity, clock::unix_micros(clock::now()), &self.host, "controller", "test", 1);
        let mut bytes = Vec::new();
        push(&mut bytes, &format!("{header} this is a test, and no record"));
        self.write(bytes).await?;
        self.farewell().await
    }
}

/// A receiver says nothing, so whatever is read is to be skipped, until the end.
async fn closed(from_it: &mut ReadHalf<TlsStream<TcpStream>>) -> String {
    let mut buffer = [0; 1_024];
    loop {
        match from_it.read(&mut buffer).await {
            Ok(0) => return "it closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => return format!("the connection broke: {error}"),
        }
    }
}

/// A message with its length in front (RFC 5425 §4.3).
fn push(bytes: &mut Vec<u8>, message: &str) {
    bytes.extend_from_slice(message.len().to_string().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(message.as_bytes());
}

fn message(host: &str, position: u64, record: &Record, body: &str) -> String {
    let severity = ocsf::severity(record).syslog();
    let sequence = position % MAX_SEQUENCE + 1;
    let header = header(severity, record.time_us, host, &record.source, record.kind.as_str(), sequence);
    format!("{header} {body}")
}

/// Everything before the text. There is no element of our own beside those that are registered: it would need a number
/// of an enterprise.
fn header(severity: u8, time_us: u64, host: &str, source: &str, kind: &str, sequence: u64) -> String {
    // A moment that has no such text is told as none.
    let time = moment::to_text(clock::from_unix_micros(time_us)).unwrap_or_else(|| "-".to_owned());
    let source: String = source.chars().filter(char::is_ascii_graphic).take(MAX_PROCID).collect();
    let source = if source.is_empty() { "-" } else { &source };
    let (priority, version) = (FACILITY * 8 + severity, env!("CARGO_PKG_VERSION"));
    format!(
        "<{priority}>1 {time} {host} vouchsafe {source} {kind} \
         [meta sequenceId=\"{sequence}\"][origin software=\"vouchsafe\" swVersion=\"{version}\"]"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouchsafe_wire::audit::Kind;

    #[test]
    fn a_message_is_of_rfc_5424_and_has_its_length_in_front() {
        let mut record = Record::new(Kind::Decision, 1_790_000_000_123_456);
        record.source = "gtw_a b\n".to_owned();
        record.outcome = Some("deny".to_owned());
        let message = message("corp.example", 41, &record, "{\"x\":\"ü\"}");
        let expected = format!(
            "<109>1 2026-09-21T14:13:20.123Z corp.example vouchsafe gtw_ab decision \
             [meta sequenceId=\"42\"][origin software=\"vouchsafe\" swVersion=\"{}\"] {{\"x\":\"ü\"}}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(message, expected);
        let mut bytes = Vec::new();
        push(&mut bytes, "aü");
        assert_eq!(bytes, "3 aü".as_bytes(), "bytes are counted, not characters");
        assert!(message.contains("sequenceId=\"42\""));
        let last = super::message("h", MAX_SEQUENCE, &record, "");
        assert!(last.contains("sequenceId=\"1\""), "{last}");
    }
}
