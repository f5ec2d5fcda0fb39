//! The command line: every verb and what all of them take.

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand};

use crate::call::Call;
use crate::collector::Variables;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::verbs::logs::LogFormat;
use crate::verbs::{
    apply, assess, audit, completions, connect, connector, controller, demo, device, doctor, enroll, gateway, grant,
    group, lock, login, logout, look, observed, pipe, plan, policy, prover, proxy, request, resource, session, status,
    up, user, version, webhook, witness,
};

/// A self-hosted zero-trust network: who, on what device, under which policy, for each request.
#[derive(Debug, Parser)]
#[command(
    name = "vouchsafe",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 called wrongly, 3 access denied, 4 nobody answers."
)]
pub(crate) struct Cli {
    /// Prints JSON for programs.
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
    /// State directory [default: $XDG_STATE_HOME/vouchsafe, or /var/lib/vouchsafe as root].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Runs controller and gateway in one process.
    Up(up::Args),
    /// Runs a controller alone.
    Controller(controller::Args),
    /// Runs a gateway alone; also: join, invite, list, remove.
    Gateway(gateway::Args),
    /// Runs a connector, through which gateways reach a network that they can't dial; also: join, invite, list,
    /// remove.
    Connector(connector::Args),
    /// Runs a witness, which cosigns checkpoints of audit logs; also: key.
    Witness(witness::Args),
    /// Shows the whole of it on this machine, with made-up people and apps.
    Demo(demo::Args),
    /// Enrols this device with a ticket from an administrator.
    Enroll(enroll::Args),
    /// Signs you in on this device.
    Login(login::Args),
    /// Signs you out on this device.
    Logout(logout::Args),
    /// Shows this device, who is signed in, and the installation.
    Status(status::Args),
    /// Makes a resource reachable at a local port.
    Connect(connect::Args),
    /// Joins standard input and output to a resource.
    Pipe(pipe::Args),
    /// Runs a local HTTP and SOCKS5 proxy for browsers and tools.
    Proxy(proxy::Args),
    /// Users: who there is and may sign in.
    #[command(subcommand)]
    User(user::Verb),
    /// Groups of users.
    #[command(subcommand)]
    Group(group::Verb),
    /// Enrolled devices.
    #[command(subcommand)]
    Device(device::Verb),
    /// Open sessions.
    #[command(subcommand)]
    Session(session::Verb),
    /// Resources: what can be reached.
    #[command(subcommand)]
    Resource(resource::Verb),
    /// Asks for access to a resource for a time, and decides what others ask for.
    Request(request::Args),
    /// Grants: one user's right to one resource.
    #[command(subcommand)]
    Grant(grant::Verb),
    /// Ends everything of a user, device or session, or to a resource, at once, and keeps it so.
    #[command(subcommand)]
    Lock(lock::Verb),
    /// Takes a lock away.
    #[command(subcommand)]
    Unlock(lock::Unlock),
    /// Places, such as chat tools, that are told what happens.
    #[command(subcommand)]
    Webhook(webhook::Verb),
    /// Policies: who may reach what, under which conditions.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Shows what `apply` would change.
    Plan(plan::Args),
    /// Brings the installation to the state that a directory describes.
    Apply(apply::Args),
    /// The audit log: who reached what, and why.
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Observed accesses: who used what, from logs that exist.
    #[command(subcommand)]
    Observed(observed::Verb),
    /// Looks at this host or at files of another, and says how far it is from zero trust.
    Assess(assess::Args),
    /// Looks at this machine and says what holds.
    #[command(subcommand)]
    Doctor(doctor::Verb),
    /// Looks at this host for the controller that started it.
    #[command(hide = true)]
    Look(look::Args),
    /// Answers a controller's questions about policies.
    #[command(hide = true)]
    Prover(prover::Args),
    /// Prints completions for a shell.
    Completions(completions::Args),
    /// Prints the version.
    Version(version::Args),
}

impl Verb {
    /// Log filter when none is set: servers tell what happens, other verbs only what goes wrong.
    #[must_use]
    pub(crate) fn log_filter(&self) -> &'static str {
        match self {
            Verb::Up(_) | Verb::Controller(_) => "info",
            Verb::Gateway(args) if args.serves() => "info",
            Verb::Connector(args) if args.serves() => "info",
            Verb::Witness(args) if args.serves() => "info",
            _ => "warn",
        }
    }

    /// Form of the log: a server's as it was asked for, text for everything else.
    #[must_use]
    pub(crate) const fn log_format(&self) -> LogFormat {
        match self {
            Verb::Up(args) => args.log_format(),
            Verb::Controller(args) => args.log_format(),
            Verb::Gateway(args) => args.log_format(),
            Verb::Connector(args) => args.log_format(),
            Verb::Witness(args) => args.log_format(),
            _ => LogFormat::Text,
        }
    }

    /// What must happen while the process has one thread.
    ///
    /// # Errors
    /// [`VerbError`], to be printed.
    pub(crate) fn confine(&mut self, dir: &Path, telemetry: &Variables) -> Result<(), VerbError> {
        match self {
            Verb::Up(args) => up::confine(args, dir, telemetry),
            Verb::Controller(args) => controller::confine(args, dir, telemetry),
            Verb::Gateway(args) => gateway::confine(args, dir, telemetry),
            Verb::Connector(args) => connector::confine(args, dir),
            Verb::Witness(args) => witness::confine(args, dir),
            Verb::Doctor(verb) => verb.confine(dir),
            Verb::Prover(args) => prover::confine(args),
            Verb::Look(_) => look::confine(),
            _ => Ok(()),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// [`VerbError`], to be printed.
    pub(crate) async fn run(self, call: &Call) -> Result<Exit, VerbError> {
        match self {
            Verb::Up(args) => up::run(args, call).await,
            Verb::Controller(args) => controller::run(args, call).await,
            Verb::Gateway(args) => gateway::run(args, call).await,
            Verb::Connector(args) => connector::run(args, call).await,
            Verb::Witness(args) => witness::run(args, call).await,
            Verb::Demo(args) => demo::run(args, call).await,
            Verb::Enroll(args) => enroll::run(args, call).await,
            Verb::Login(args) => login::run(args, call).await,
            Verb::Logout(args) => logout::run(args, call).await,
            Verb::Status(args) => status::run(args, call).await,
            Verb::Connect(args) => connect::run(args, call).await,
            Verb::Pipe(args) => pipe::run(args, call).await,
            Verb::Proxy(args) => proxy::run(args, call).await,
            Verb::User(verb) => user::run(verb, call).await,
            Verb::Group(verb) => group::run(verb, call).await,
            Verb::Device(verb) => device::run(verb, call).await,
            Verb::Session(verb) => session::run(verb, call).await,
            Verb::Resource(verb) => resource::run(verb, call).await,
            Verb::Request(args) => request::run(args, call).await,
            Verb::Grant(verb) => grant::run(verb, call).await,
            Verb::Lock(verb) => lock::run(verb, call).await,
            Verb::Webhook(verb) => webhook::run(verb, call).await,
            Verb::Unlock(unlock) => lock::run_unlock(unlock, call).await,
            Verb::Policy(verb) => policy::run(verb, call).await,
            Verb::Plan(args) => plan::run(args, call).await,
            Verb::Apply(args) => apply::run(args, call).await,
            Verb::Audit(verb) => audit::run(verb, call).await,
            Verb::Observed(verb) => observed::run(verb, call),
            Verb::Assess(args) => assess::run(args, call).await,
            Verb::Doctor(verb) => doctor::run(verb, call).await,
            Verb::Prover(args) => prover::run(args, call).await,
            Verb::Look(_) => look::run(),
            Verb::Completions(args) => completions::run(&args, call),
            Verb::Version(args) => version::run(&args, call),
        }
    }
}

/// The command as clap knows it, for completions.
#[must_use]
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_has_help_with_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if ["up", "demo"].contains(&command.get_name()) {
                return;
            }
            if command.has_subcommands() {
                for verb in command.get_subcommands() {
                    check(verb, &path);
                }
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "`{path}` has no example");
                assert!(command.get_about().is_some(), "`{path}` says not what it does");
            }
        }
        for verb in command().get_subcommands() {
            check(verb, "vouchsafe");
        }
    }

    #[test]
    fn names_are_checked_where_they_are_typed() {
        for good in [
            "vouchsafe user add alice --group staff --group admins",
            "vouchsafe --json user list",
            "vouchsafe user set alice --disable",
            "vouchsafe resource add http wiki http://127.0.0.1:3000 --tag pii --sensitivity restricted",
            "vouchsafe resource add tcp db 127.0.0.1:5432 --port 6543",
            "vouchsafe resource add tcp db db.internal:5432 --via frankfurt",
            "vouchsafe connector --allow 10.0.0.0/8:* --gateway gw.corp.example:443 --proxy http://proxy:3128",
            "vouchsafe connector invite frankfurt",
            "vouchsafe witness --logs keys.txt --name witness.example.org/w1 --listen [::1]:0",
            "vouchsafe witness key",
            "vouchsafe resource mode wiki observe --from 10.0.0.0/8 --from fd00::/8 --owner alice --reason x --for 14d",
            "vouchsafe resource mode wiki warn --until 2026-12-31T18:00:00Z --yes",
            "vouchsafe resource add udp dns 10.0.0.5:53 --via frankfurt",
            "vouchsafe resource mode wiki enforce",
            "vouchsafe grant add alice finance --for 8h --reason audit",
            "vouchsafe request finance --for 2h --reason audit",
            "vouchsafe request list --all",
            "vouchsafe policy explain --user alice --resource finance --path /ledger --ip 203.0.113.9",
            "vouchsafe audit query --since 1h --outcome deny --json",
            "vouchsafe audit query --text ledger --since 7d",
            "vouchsafe audit counts --since 24h --step 1h --resource finance",
            "vouchsafe audit counts --by reason --top 50 --outcome deny",
            "vouchsafe connect db:5432 --listen 127.0.0.1:6000",
            "vouchsafe apply -f dir --yes",
            "vouchsafe policy suggest --since 30d --observed seen.jsonl --group-share 80% -o dir",
            "vouchsafe observed import --format nginx --resource wiki --utc-offset -05:00 -o seen.jsonl access.log -",
            "vouchsafe assess --root collected --html report.html --drafts drafts --baseline earlier.json",
        ] {
            if let Err(error) = parse(good) {
                panic!("{good}: {error}");
            }
        }
        for bad in [
            "vouchsafe user add Alice",
            "vouchsafe user add alice --group ../x",
            "vouchsafe user set alice --disable --enable",
            "vouchsafe user set alice",
            "vouchsafe resource mode wiki observed",
            "vouchsafe resource mode wiki",
            "vouchsafe resource mode wiki observe --for 14d --until 2026-12-31T18:00:00Z",
            "vouchsafe resource mode wiki observe --until tomorrow",
            "vouchsafe grant add alice finance --for 8",
            "vouchsafe request finance --for 2h",
            "vouchsafe request finance --reason audit",
            "vouchsafe request",
            "vouchsafe enroll --ticket vse1.x",
            "vouchsafe audit query --outcome maybe",
            "vouchsafe audit counts --step 1h",
            "vouchsafe audit counts --by path",
            "vouchsafe audit counts --top 5",
            "vouchsafe audit counts --by user --top 51",
            "vouchsafe policy explain --user alice",
            "vouchsafe session remove dev_1",
            "vouchsafe connect db:0",
            "vouchsafe connector --gateway gw",
            "vouchsafe witness --log api.corp.example/v1/audit/log",
            "vouchsafe witness --tls-cert site.pem",
            "vouchsafe policy suggest --unused 90d --rare 3",
            "vouchsafe observed import --format iis -o seen.jsonl access.log",
            "vouchsafe observed import --format nginx -o seen.jsonl",
            "vouchsafe observed import --format nginx --utc-offset CET -o seen.jsonl access.log",
            "vouchsafe connector invite Frankfurt",
            "vouchsafe connect 10.0.0.1:80",
            "vouchsafe",
        ] {
            assert!(parse(bad).is_err(), "{bad} was accepted");
        }
    }

    /// clap merges arguments of one id, so a verb's own `dir` would become the state directory.
    #[test]
    fn no_verb_has_an_argument_of_a_global_ones_id() {
        fn check(command: &clap::Command) {
            for verb in command.get_subcommands() {
                for argument in verb.get_arguments() {
                    assert!(!["dir", "json"].contains(&argument.get_id().as_str()), "{}", verb.get_name());
                }
                check(verb);
            }
        }
        check(&command());
        let cli = parse("vouchsafe --dir /state policy check /files").unwrap();
        assert_eq!(cli.dir, Some(PathBuf::from("/state")));
    }

    #[test]
    fn a_denied_name_tells_the_rule() {
        let error = parse("vouchsafe user add Alice").unwrap_err().to_string();
        assert!(error.contains("not a valid user name") && error.contains("a-z"), "{error}");
    }
}
