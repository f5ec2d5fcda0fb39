//! How a server writes its log.

use clap::ValueEnum;

/// Form of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// The log of a server.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct LogArgs {
    /// Form of the log on standard error: lines for people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}
