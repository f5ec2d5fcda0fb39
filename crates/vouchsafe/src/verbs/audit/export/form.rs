//! What records are written as.

use vouchsafe_wire::audit::Record;
use vouchsafe_wire::{ocsf, otlp};

use crate::error::VerbError;
use crate::exit::Exit;

/// A form of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An event of OCSF each.
    Ocsf,
    /// A record each, in its canonical bytes.
    Json,
    /// Some log records of OpenTelemetry each, as its exporters write files.
    Otlp,
}

impl Form {
    pub(super) const ALL: [Form; 3] = [Form::Ocsf, Form::Json, Form::Otlp];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Form::Ocsf => "ocsf",
            Form::Json => "json",
            Form::Otlp => "otlp",
        }
    }

    /// Adds these records, which have positions, as whole lines.
    pub(super) fn encode(self, records: &[(u64, Record)], bytes: &mut Vec<u8>) -> Result<(), VerbError> {
        let canonical = |record: &Record| record.to_canonical().map_err(|error| VerbError::of(Exit::Failed, &error));
        match self {
            Form::Ocsf => {
                for (position, record) in records {
                    bytes.extend_from_slice(ocsf::event(*position, record).to_string().as_bytes());
                    bytes.push(b'\n');
                }
            }
            Form::Json => {
                for (_, record) in records {
                    bytes.extend_from_slice(&canonical(record)?);
                    bytes.push(b'\n');
                }
            }
            Form::Otlp => {
                let mut batch = Vec::with_capacity(records.len());
                for (position, record) in records {
                    let body = String::from_utf8(canonical(record)?);
                    batch.push((*position, record, body.map_err(|error| VerbError::of(Exit::Failed, &error))?));
                }
                bytes.extend_from_slice(otlp::export_logs("", batch).to_json().to_string().as_bytes());
                bytes.push(b'\n');
            }
        }
        Ok(())
    }
}
