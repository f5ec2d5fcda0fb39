//! Versions of the policy. A publish is one transaction: nothing of a refused one is left.

use std::net::IpAddr;

use sqlx::SqliteConnection;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{Checked, PolicyFileDoc, PolicyVersion, ProposalDoc, Publish, Published};

use super::proofs::{self, Proven};
use super::{AdministratorError, approval, confirm, gate, one_line, shortened, standing};
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{Write, policy};

/// Most policy files of one version.
const MAX_FILES: usize = 1_000;
/// Most files of tests of one version, and most of invariants.
const MAX_OTHER_FILES: usize = 200;

/// Checks files without publishing them: all that can be said without users.
pub(crate) async fn check_files(context: &Context, files: &[PolicyFileDoc]) -> Result<Checked, AdministratorError> {
    acceptable(files, &[], &[])?;
    let mut read = context.store.read().await?;
    let version = policy::highest(&mut read).await? + 1;
    match gate::compile(&mut read, policy::to_engine(files), version).await {
        Ok(engine) => Ok(Checked {
            ok: true,
            policies: u64::try_from(engine.policies().len()).unwrap_or(u64::MAX),
            diagnostics: engine.warnings().iter().cloned().map(gate::diagnostic).collect(),
        }),
        Err(AdministratorError::PolicyInvalid { diagnostics }) => Ok(Checked { ok: false, policies: 0, diagnostics }),
        Err(error) => Err(error),
    }
}

/// Publishes files as the next version. When they are what is in force already, that version is
/// the answer and nothing changes.
pub(crate) async fn publish(context: &Context, publish: &Publish, by: &Actor) -> Result<Published, AdministratorError> {
    let Publish { files, tests, invariants, compare, note, expected_version, confirm_within } = publish;
    let (tests, invariants) = (tests.as_deref(), invariants.as_deref());
    acceptable(files, tests.unwrap_or_default(), invariants.unwrap_or_default())?;
    one_line("note", note)?;
    if let Some(seconds) = confirm_within.filter(|seconds| !confirm::WITHIN.contains(seconds)) {
        let (given, expected) = (seconds.to_string(), "30 to 86400 seconds");
        return Err(AdministratorError::Value { member: "confirm_within", given, expected });
    }
    // Mistakes are found before the writer is taken: a broken file holds nobody up.
    gate::check(policy::to_engine(files)).await?;
    gate::read_tests(&policy::to_engine(tests.unwrap_or_default()))?;
    let present = policy::current(&mut *context.store.read().await?).await?;
    let former = compare.then_some(present.files.as_slice());
    let proven = proofs::prove(context, files, invariants.unwrap_or(&present.invariants), former).await?;
    let mut write = context.store.write().await?;
    standing::still_may(context, &mut write, by, "POST /v1/policy/publish").await?;
    let current = policy::highest(write.connection()).await?;
    if let Some(expected) = expected_version.filter(|expected| *expected != current) {
        return Err(AdministratorError::VersionMoved { expected, current });
    }
    // Nothing was compared with what came between.
    if *compare && current != present.version {
        return Err(AdministratorError::ProofMoved);
    }
    let (kind, confirm_within, proposal) = (Kind::Publish, *confirm_within, None);
    let wanted = Wanted { files, tests, invariants, note, kind, confirm_within, proven: &proven, proposal };
    let mut published = publish_in(&mut write, &wanted, by).await?;
    write.commit().await?;
    if let Published::InForce(version) = &mut published {
        version.proofs = proven.findings;
    }
    Ok(published)
}

/// Publishes the files of an earlier version as a new one, through the same gate.
pub(crate) async fn roll_back(context: &Context, number: u64, by: &Actor) -> Result<Published, AdministratorError> {
    let earlier = show(&mut *context.store.read().await?, number).await?;
    let proven = proofs::prove(context, &earlier.files, &earlier.invariants, None).await?;
    let mut write = context.store.write().await?;
    standing::still_may(context, &mut write, by, "POST /v1/policy/rollback").await?;
    let note = format!("rollback to version {number}");
    let (files, tests) = (&earlier.files, Some(earlier.tests.as_slice()));
    let invariants = Some(earlier.invariants.as_slice());
    let (kind, confirm_within, proposal) = (Kind::Rollback, None, None);
    let wanted = Wanted { files, tests, invariants, note: &note, kind, confirm_within, proven: &proven, proposal };
    let published = publish_in(&mut write, &wanted, by).await?;
    write.commit().await?;
    Ok(published)
}

/// One version with its files.
pub(crate) async fn show(connection: &mut SqliteConnection, number: u64) -> Result<PolicyVersion, AdministratorError> {
    policy::show(connection, number)
        .await?
        .ok_or_else(|| AdministratorError::Missing { what: "policy version", name: number.to_string() })
}

/// What is to be published.
pub(crate) struct Wanted<'w> {
    pub(crate) files: &'w [PolicyFileDoc],
    /// `None` for those of the version in force.
    pub(crate) tests: Option<&'w [PolicyFileDoc]>,
    /// `None` for those of the version in force.
    pub(crate) invariants: Option<&'w [PolicyFileDoc]>,
    pub(crate) note: &'w str,
    pub(crate) kind: Kind,
    /// Seconds within which it has to be confirmed.
    pub(crate) confirm_within: Option<u64>,
    /// That what must hold of it does.
    pub(crate) proven: &'w Proven,
    /// The proposal that this is, where a second administrator stands up for it now.
    pub(crate) proposal: Option<&'w ProposalDoc>,
}

/// How somebody came by what is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was written.
    Publish,
    /// It was in force before.
    Rollback,
}

impl Kind {
    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Kind::Publish => "publish",
            Kind::Rollback => "rollback",
        }
    }

    /// What policies are asked about: method and path.
    pub(crate) const fn operation(self) -> &'static str {
        match self {
            Kind::Publish => "POST /v1/policy/publish",
            Kind::Rollback => "POST /v1/policy/rollback",
        }
    }
}

/// Publishes within a change; or keeps it for a second administrator, where it touches what one can't change alone.
pub(crate) async fn publish_in(
    write: &mut Write,
    wanted: &Wanted<'_>,
    by: &Actor,
) -> Result<Published, AdministratorError> {
    let Wanted { files, tests, invariants, note, kind, confirm_within, proven, proposal } = wanted;
    let number = policy::highest(write.connection()).await?;
    let before = policy::show(write.connection(), number).await?;
    let kept = |of: fn(&PolicyVersion) -> &[PolicyFileDoc]| before.as_ref().map(of).unwrap_or_default();
    let tests = tests.unwrap_or(kept(|before| &before.tests));
    let invariants = invariants.unwrap_or(kept(|before| &before.invariants));
    acceptable(files, tests, invariants)?;
    let is_same = |before: &&PolicyVersion| {
        let parts = [(&before.files, *files), (&before.tests, tests), (&before.invariants, invariants)];
        parts.into_iter().all(|(before, after)| sorted(before) == sorted(after))
    };
    if let Some(same) = before.as_ref().filter(is_same) {
        if *kind == Kind::Rollback {
            policy::settled(write.connection()).await?;
        }
        return Ok(Published::InForce(Box::new(same.clone())));
    }
    match (kind, policy::unconfirmed(write.connection()).await?) {
        (Kind::Publish, Some(waits)) => return Err(AdministratorError::Unconfirmed { version: waits.version }),
        // Whoever goes back has decided about what waits to be confirmed.
        (Kind::Publish, None) | (Kind::Rollback, _) => {}
    }
    if !proven.is_of(files, invariants) {
        return Err(AdministratorError::ProofMoved);
    }
    let ip = address_of(by);
    let engine_tests = policy::to_engine(tests);
    let passed = gate::pass(write.connection(), policy::to_engine(files), &engine_tests, number + 1, ip).await?;
    let protected = approval::touched(kept(|before| &before.files), files)?;
    if proposal.is_none() && !protected.is_empty() {
        let draft =
            approval::Draft { base: number, kind: *kind, files, tests, invariants, confirm_within: *confirm_within };
        let held = approval::hold(write, &draft, protected, note, by).await?;
        return Ok(Published::Waits(Box::new(held)));
    }
    policy::settled(write.connection()).await?;
    let now = clock::unix_seconds(clock::now());
    let version = PolicyVersion {
        version: number + 1,
        created: now,
        by: proposal.map_or_else(|| by.label(), |proposal| proposal.by.clone()),
        approved_by: proposal.map(|_| by.label()),
        note: (*note).to_owned(),
        current: true,
        confirm_by: confirm_within.map(|seconds| now.saturating_add(seconds)),
        policies: passed.policies,
        files: sorted(files).into_iter().cloned().collect(),
        tests: sorted(tests).into_iter().cloned().collect(),
        invariants: sorted(invariants).into_iter().cloned().collect(),
        proofs: Vec::new(),
    };
    policy::insert(write.connection(), &version).await?;
    if let Some(confirm_by) = version.confirm_by {
        let waits = policy::Unconfirmed { version: version.version, before: number, confirm_by };
        policy::await_confirmation(write.connection(), &waits).await?;
    }
    write.snapshot_changed();
    let mut detail = differences(kept(|before| &before.files), files);
    detail.extend(differences(kept(|before| &before.tests), tests));
    detail.extend(differences(kept(|before| &before.invariants), invariants));
    detail.extend(Some(proven.in_words()).filter(|words| !words.is_empty()));
    if !note.is_empty() {
        detail.insert(0, (*note).to_owned());
    }
    if let Some(ProposalDoc { proposal, by, protected, .. }) = proposal {
        detail.push(format!("proposed by {by} as {proposal}; touches {}", approval::listed(protected)));
    }
    let verb = format!("policy.{}", kind.as_str());
    let mut record = by.changed(&verb, format!("policy/{}", version.version), detail.join("; "));
    record.policy_version = Some(version.version);
    write.audit(record);
    Ok(Published::InForce(Box::new(version)))
}

fn address_of(by: &Actor) -> Option<IpAddr> {
    match by {
        Actor::User { ip, .. } | Actor::Device { ip, .. } | Actor::Anonymous { ip } => Some(*ip),
        Actor::Local { .. } | Actor::Controller => None,
    }
}

pub(super) fn sorted(files: &[PolicyFileDoc]) -> Vec<&PolicyFileDoc> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

/// What is different, a line for each file.
pub(crate) fn differences(before: &[PolicyFileDoc], after: &[PolicyFileDoc]) -> Vec<String> {
    let mut lines = Vec::new();
    for file in sorted(after) {
        match before.iter().find(|old| old.name == file.name) {
            None => lines.push(format!("{}: added, {} lines", file.name, file.text.lines().count())),
            Some(old) if old.text != file.text => {
                let (was, is) = (old.text.lines().count(), file.text.lines().count());
                lines.push(format!("{}: changed, {was} → {is} lines", file.name));
            }
            Some(_) => {}
        }
    }
    for old in sorted(before) {
        if !after.iter().any(|file| file.name == old.name) {
            lines.push(format!("{}: removed", old.name));
        }
    }
    lines
}

/// File names stand in records, on terminals and as paths below a directory when policies are
/// exported, so they are kept plain.
pub(super) fn acceptable(
    files: &[PolicyFileDoc],
    tests: &[PolicyFileDoc],
    invariants: &[PolicyFileDoc],
) -> Result<(), AdministratorError> {
    for (member, all) in [("tests", tests), ("invariants", invariants)] {
        if all.len() > MAX_OTHER_FILES {
            let (given, expected) = (all.len().to_string(), "at most 200 files");
            return Err(AdministratorError::Value { member, given, expected });
        }
    }
    if files.len() > MAX_FILES {
        let expected = "at most 1000 files";
        return Err(AdministratorError::Value { member: "files", given: files.len().to_string(), expected });
    }
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let is_path = |file: &PolicyFileDoc, ending| {
        file.name.len() <= 200 && file.name.ends_with(ending) && file.name.split('/').all(plain)
    };
    if let Some(file) = files.iter().find(|file| !is_path(file, ".cedar")) {
        let expected = "a path such as `apps/wiki.cedar` of letters, digits, `.`, `_` and `-`";
        return Err(AdministratorError::Value { member: "name", given: shortened(&file.name), expected });
    }
    if let Some(file) = tests.iter().chain(invariants).find(|file| !is_path(file, ".toml")) {
        let expected = "a path such as `tests/wiki.toml` of letters, digits, `.`, `_` and `-`";
        return Err(AdministratorError::Value { member: "name", given: shortened(&file.name), expected });
    }
    Ok(())
}
