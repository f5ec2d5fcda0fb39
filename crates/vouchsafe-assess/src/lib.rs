//! `assess`: a read-only look at a host, or at a directory of files collected from one.
//!
//! - `source`: the only way to files, inside one root and within limits; nothing else is read
//! - `notes`: what is found and what could not be read, on the way to a report
//! - `kinds`: every finding that there is, with its remedy
//! - `finding`, `report`: findings, gaps, services, score and progress, as they are written
//! - one module for each thing looked at, each a pure parser (text to facts) beside a small reader:
//!   `listening`, `ssh`, `postgres`, `web` (nginx, HAProxy, Apache, Caddy), `firewall`, `accounts`, `sudo`,
//!   `certificates`, `containers`, `updates`
//! - `services`: what listens, joined with what the configurations say about it
//! - `score`: stages of the CISA Zero Trust Maturity Model v2, with the reasons
//! - `drafts`: resources for a manifest; `html`: the report as a page
//! - `text`: lines, patterns, and evidence without secrets
//!
//! It opens no socket, starts no program and writes nothing: callers write what they asked for.

mod accounts;
mod certificates;
mod containers;
pub mod drafts;
pub mod finding;
mod firewall;
mod html;
mod kinds;
mod listening;
mod notes;
mod postgres;
pub mod report;
mod score;
mod services;
pub mod source;
mod ssh;
mod sudo;
mod text;
mod updates;
mod web;

#[cfg(test)]
mod tests;

use crate::notes::Notes;
use crate::report::Report;
use crate::source::Source;

pub use crate::drafts::Watch;
pub use crate::html::page;
pub use crate::kinds::catalogue;

/// What a look may use beside the files of the host.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Unix seconds now.
    pub now: u64,
    /// Output of `ss -tulpn`, where no `/proc` was collected.
    pub ss: Option<String>,
    /// Output of `pg_dumpall --roles-only`.
    pub roles: Option<String>,
}

/// Looks at everything.
#[must_use]
pub fn look(source: &Source, options: &Options) -> Report {
    let mut notes = Notes::default();
    let accounts = accounts::look(source, options, &mut notes);
    sudo::look(source, &mut notes);
    let ssh = ssh::look(source, &accounts, &mut notes);
    let databases = postgres::look(source, options, &mut notes);
    let sites = web::look(source, &mut notes);
    let firewall = firewall::look(source, &mut notes);
    certificates::look(source, options.now, &sites, &databases, &mut notes);
    containers::look(source, &accounts, &mut notes);
    let updates = updates::look(source, options.now, &mut notes);
    let sockets = listening::look(source, options, &mut notes);
    let services = services::join(&sockets, &ssh, &databases, &sites, &firewall, &mut notes);
    let seen = score::Seen {
        accounts: &accounts,
        ssh: &ssh,
        databases: &databases,
        sites: &sites,
        firewall: &firewall,
        updates: &updates,
        services: &services,
    };
    let score = score::of(&seen, &notes);
    let about = (updates.host.clone(), updates.system.clone());
    report::finish(source, options.now, about, notes, services, score)
}
