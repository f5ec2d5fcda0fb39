//! The gate that every policy passes before it is published (I8): it compiles, its tests pass, and
//! somebody can still administer under it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sqlx::SqliteConnection;
use vouchsafe_model::action::Action;
use vouchsafe_model::id::{DeviceId, SessionId};
use vouchsafe_model::name::{DeviceName, UserName};
use vouchsafe_model::subject::{AuthFacts, AuthMethod, DeviceFacts, Epoch, Grade, SubjectFacts, UserFacts};
use vouchsafe_policy::{
    CaseResult, Engine, KeyAgreement, Memberships, PolicyFile, PolicySource, PreparedSubject, Suite, Unlinked,
};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::cores::side_by_side;
use vouchsafe_wire::api::{Device, Diagnostic, FailedTest};
use vouchsafe_wire::resource::ResourceDoc;

use super::AdministratorError;
use crate::directory::able_administrators;
use crate::store::{StoreError, devices, facts, grants, groups as store_groups, resources, users};

/// What somebody has to be allowed: the operation as a gateway calls it, method and path.
const PUBLISHING: &str = "POST /v1/policy/publish";

/// For how long somebody must be able to administer, from a publish on.
const LASTING: Duration = Duration::from_secs(30 * 86_400);
/// How long a session is good that has just begun.
const FRESH: Duration = Duration::from_secs(3_600);

/// A policy that may be published.
pub(crate) struct Passed {
    /// How many policies it has.
    pub(crate) policies: u64,
}

/// Compiles `files` with the resources and grants that are in the store at this moment, runs `tests`
/// and looks for somebody who could still change things in the console. `ip` is where the caller is.
///
/// Call it within the transaction that publishes, so that nothing moves in between.
pub(crate) async fn pass(
    connection: &mut SqliteConnection,
    files: Vec<PolicyFile>,
    tests: &[PolicyFile],
    version: u64,
    ip: Option<IpAddr>,
) -> Result<Passed, AdministratorError> {
    let engine = compile(connection, files.clone(), version).await?;
    let unlinked = engine.unlinked();
    if !unlinked.is_empty() {
        return Err(AdministratorError::GrantsUnlinked { grants: unlinked.iter().map(in_words).collect() });
    }
    if !tests.is_empty() {
        test(connection, files, tests, &engine).await?;
    }
    let candidates = candidates(connection).await?;
    let policies = u64::try_from(engine.policies().len()).unwrap_or(u64::MAX);
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let now = clock::now();
    // What ends within the month keeps nobody in: by then it must still be possible, whoever it is.
    if [now, now + LASTING].into_iter().any(|time| !anybody_may(&engine, &candidates, PUBLISHING, ip, time)) {
        return Err(AdministratorError::LockOut);
    }
    Ok(Passed { policies })
}

fn in_words(unlinked: &Unlinked) -> String {
    let Unlinked { grant, template, user, resource, is_of_other_kind } = unlinked;
    let why = if *is_of_other_kind { "which says nothing about it" } else { "which isn't there" };
    format!("`{grant}` of {user} to {resource}, of the template `{template}`, {why}")
}

fn anybody_may(
    engine: &Arc<Engine>,
    candidates: &[SubjectFacts],
    operation: &str,
    ip: IpAddr,
    time: SystemTime,
) -> bool {
    candidates.iter().any(|subject| {
        let auth = AuthFacts { at: time, ..subject.auth.clone() };
        let subject = SubjectFacts { auth, expires: time + FRESH, ..subject.clone() };
        let subject = PreparedSubject::new(Arc::clone(engine), Arc::new(subject));
        // Every browser of today agrees on keys so.
        subject.decide_console(Action::ConsoleWrite, operation, ip, KeyAgreement::PostQuantum, time).is_ok()
    })
}

/// Whether somebody could do this under a policy if she signed in now, on whichever of her devices.
pub(super) async fn could(
    connection: &mut SqliteConnection,
    engine: &Arc<Engine>,
    name: &UserName,
    operation: &str,
    ip: IpAddr,
) -> Result<bool, AdministratorError> {
    let mut candidates = Vec::new();
    if users::able_to_sign_in(connection).await?.iter().any(|able| able == name.as_str()) {
        let devices = devices::list(connection).await?;
        candidates_of(connection, name, &devices, &mut candidates).await?;
    }
    Ok(anybody_may(engine, &candidates, operation, ip, clock::now()))
}

/// Compiles policy files with what the store holds.
pub(crate) async fn compile(
    connection: &mut SqliteConnection,
    files: Vec<PolicyFile>,
    version: u64,
) -> Result<Arc<Engine>, AdministratorError> {
    let source = PolicySource {
        version,
        files,
        grants: grants::list(connection, clock::unix_seconds(clock::now()))
            .await?
            .iter()
            .map(grants::to_model)
            .collect::<Result<_, StoreError>>()?,
        resources: resources::all(connection).await?,
    };
    // Thousands of policies take a while to compile, which must not hold up other tasks.
    let compiled =
        tokio::task::spawn_blocking(move || Engine::compile_spread(source, last().as_deref(), &side_by_side)).await;
    match compiled {
        Ok(Ok(engine)) => {
            *LAST.lock() = Some(Arc::clone(&engine));
            Ok(engine)
        }
        Ok(Err(diagnostics)) => {
            Err(AdministratorError::PolicyInvalid { diagnostics: diagnostics.into_iter().map(diagnostic).collect() })
        }
        Err(_) => Err(AdministratorError::BrokenOff),
    }
}

/// Runs the tests of a policy with the groups and resources that are in the store at this moment.
async fn test(
    connection: &mut SqliteConnection,
    files: Vec<PolicyFile>,
    tests: &[PolicyFile],
    engine: &Arc<Engine>,
) -> Result<(), AdministratorError> {
    let suite = read_tests(tests)?;
    let mut groups = Memberships::new();
    for user in suite.users() {
        if let Some(of_user) = store_groups::of_user(connection, user).await? {
            groups.insert(user.clone(), of_user);
        }
    }
    // A lock must not keep anybody from publishing, so locked resources are asked for as well.
    let docs = resources::list(connection).await?;
    let resources = docs.iter().map(ResourceDoc::to_resource).collect::<Result<_, _>>()?;
    let source = PolicySource { version: engine.version(), files, grants: Vec::new(), resources };
    let engine = Arc::clone(engine);
    let run = move || suite.run(source, Some(&engine), &side_by_side, &groups, clock::now());
    match tokio::task::spawn_blocking(run).await {
        Ok(Ok(report)) if report.ok => Ok(()),
        Ok(Ok(report)) => {
            let asked = report.results.len();
            Err(AdministratorError::TestsFailed {
                failed: report.results.into_iter().filter_map(failed).collect(),
                asked,
            })
        }
        Ok(Err(diagnostics)) => {
            Err(AdministratorError::PolicyInvalid { diagnostics: diagnostics.into_iter().map(diagnostic).collect() })
        }
        Err(_) => Err(AdministratorError::BrokenOff),
    }
}

fn failed(result: CaseResult) -> Option<FailedTest> {
    let CaseResult { file, line, case, question, failure, explanation } = result;
    let would_change = explanation.map(|explanation| explanation.would_change).unwrap_or_default();
    Some(FailedTest { file, line, case, question, failure: failure?, would_change })
}

/// Reads the files of tests; mistakes in them are those of a policy that can't be published.
pub(crate) fn read_tests(tests: &[PolicyFile]) -> Result<Suite, AdministratorError> {
    let invalid = |found: Vec<vouchsafe_policy::Diagnostic>| AdministratorError::PolicyInvalid {
        diagnostics: found.into_iter().map(diagnostic).collect(),
    };
    Suite::read(tests).map_err(invalid)
}

/// The engine that was compiled last. What stands in it isn't read again, and it is good for nothing
/// else: with it or without, the result is the same.
static LAST: Mutex<Option<Arc<Engine>>> = Mutex::new(None);

fn last() -> Option<Arc<Engine>> {
    LAST.lock().clone()
}

/// Checks policy files by themselves, without what the store holds.
pub(crate) async fn check(files: Vec<PolicyFile>) -> Result<(), AdministratorError> {
    let check = move || vouchsafe_policy::check_spread(&files, last().as_deref(), &side_by_side);
    let found = tokio::task::spawn_blocking(check).await.map_err(|_| AdministratorError::BrokenOff)?;
    if found.iter().any(vouchsafe_policy::Diagnostic::is_error) {
        return Err(AdministratorError::PolicyInvalid { diagnostics: found.into_iter().map(diagnostic).collect() });
    }
    Ok(())
}

/// A diagnostic as the API shows it.
pub(crate) fn diagnostic(from: vouchsafe_policy::Diagnostic) -> Diagnostic {
    let vouchsafe_policy::Diagnostic {
        severity,
        code,
        message,
        file,
        line,
        column,
        offset,
        length,
        source_line: _,
        hint,
    } = from;
    Diagnostic {
        severity: severity.to_string(),
        code: code.into_owned(),
        message,
        line: if file.is_empty() { 0 } else { line },
        file,
        column,
        offset,
        length,
        hint,
    }
}

/// Everybody who can sign in, freshly signed in: without a device, on a new one of grade
/// `software`, and on each device that is theirs. Until an administrator has registered a passkey,
/// those who are only invited count as well: nobody can be locked out yet.
async fn candidates(connection: &mut SqliteConnection) -> Result<Vec<SubjectFacts>, AdministratorError> {
    let names = if able_administrators(connection).await?.is_empty() {
        users::enabled_names(connection).await?
    } else {
        users::able_to_sign_in(connection).await?
    };
    let all = devices::list(connection).await?;
    let mut candidates = Vec::new();
    for name in &names {
        candidates_of(connection, &UserName::parse(name)?, &all, &mut candidates).await?;
    }
    Ok(candidates)
}

async fn candidates_of(
    connection: &mut SqliteConnection,
    name: &UserName,
    devices: &[Device],
    candidates: &mut Vec<SubjectFacts>,
) -> Result<(), AdministratorError> {
    let Some(user) = facts::user(connection, name).await? else { return Ok(()) };
    candidates.push(subject(&user, None));
    candidates.push(subject(&user, Some(new_device(Some(name))?)));
    for device in devices.iter().filter(|device| device.owner.as_deref() == Some(name.as_str())) {
        candidates.push(subject(&user, facts::device(connection, &device.id.parse()?).await?));
    }
    Ok(())
}

/// A device as enrolment makes it.
pub(crate) fn new_device(owner: Option<&UserName>) -> Result<DeviceFacts, AdministratorError> {
    Ok(DeviceFacts {
        id: DeviceId::from_random([0; 16]),
        name: DeviceName::parse("new-device")?,
        grade: Grade::Software,
        owner: owner.cloned(),
        tags: BTreeSet::new(),
    })
}

/// A user who has just signed in.
pub(crate) fn subject(user: &UserFacts, device: Option<DeviceFacts>) -> SubjectFacts {
    let now = clock::now();
    SubjectFacts {
        session: SessionId::from_random([0; 16]),
        user: user.clone(),
        device,
        auth: AuthFacts { methods: BTreeSet::from([AuthMethod::Passkey]), at: now },
        expires: now + FRESH,
        epoch: Epoch::default(),
    }
}
