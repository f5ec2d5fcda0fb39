//! Tests of a policy, as its authors write them: TOML files of cases, each of which says who does what
//! to what and what must come of it. The format is in `docs/reference/policy-tests.md`.
//!
//! A case with lists is a table: it is asked once for each combination. What can't be asked as it is
//! written, such as of a resource that doesn't exist, fails and never passes, whatever it expects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::{Outcome, Reason};
use vouchsafe_model::name::{GroupName, PolicyName, UserName};
use vouchsafe_model::resource::Resource;
use vouchsafe_model::subject::DeviceFacts;

use crate::diagnostic::Diagnostic;
use crate::explain::Explanation;
use crate::source::PolicyFile;

mod read;
mod run;
mod table;

/// Most questions of all cases together, tables taken apart: they are asked within a publish.
const MAX_QUESTIONS: usize = 10_000;

/// Tests of a policy, read and ready to be run.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    files: Vec<SuiteFile>,
}

#[derive(Debug, Clone)]
struct SuiteFile {
    name: String,
    /// Resources that stand for those of the same name in the directory.
    resources: Vec<Resource>,
    cases: Vec<Case>,
}

/// One case: what is asked, and what must come of each of it.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    line: u32,
    questions: Vec<CaseQuestion>,
    expect: Outcome,
    by: Vec<PolicyName>,
    reason: Option<Reason>,
}

#[derive(Debug, Clone)]
struct CaseQuestion {
    subject: Arc<SubjectSpec>,
    device: Arc<DeviceSpec>,
    resource: String,
    /// Absent: each that the resource knows, or the one that the method is of.
    action: Option<Action>,
    details: Arc<Details>,
}

/// Who asks.
#[derive(Debug, PartialEq, Eq)]
struct SubjectSpec {
    /// As the case names it.
    label: String,
    user: UserName,
    /// Absent: those of the user of that name.
    groups: Option<BTreeSet<GroupName>>,
}

/// On what.
#[derive(Debug)]
struct DeviceSpec {
    label: String,
    /// `None` for a device that isn't proven.
    facts: Option<DeviceFacts>,
    owner: OwnerSpec,
}

#[derive(Debug, Clone)]
enum OwnerSpec {
    Subject,
    Nobody,
    User(UserName),
}

/// The circumstances that one value is enough of.
#[derive(Debug, Default)]
struct Details {
    method: Option<String>,
    path: Option<String>,
    host: Option<String>,
    operation: Option<String>,
    ip: Option<IpAddr>,
    post_quantum: bool,
    auth_age: u64,
    at: Option<SystemTime>,
}

/// Groups of the users that there are.
pub type Memberships = BTreeMap<UserName, BTreeSet<GroupName>>;

/// What became of all tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteReport {
    /// Whether every one passed.
    pub ok: bool,
    /// Each question in the order of files and cases.
    pub results: Vec<CaseResult>,
    /// Policies that decided nothing in any passed case, sorted; grants aren't among them.
    pub undecided: Vec<PolicyName>,
}

impl SuiteReport {
    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &CaseResult> {
        self.results.iter().filter(|result| result.failure.is_some())
    }
}

/// What became of one question of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseResult {
    /// File that the case stands in.
    pub file: String,
    /// Line that it begins in.
    pub line: u32,
    /// Its name.
    pub case: String,
    /// What was asked, such as `ann on hardware → erp, http:read`.
    pub question: String,
    /// Why it failed; absent when it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why it was decided as it was, where it failed and could be asked at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

impl Suite {
    /// Reads test files; every mistake is told.
    ///
    /// # Errors
    /// All mistakes, when there is any.
    pub fn read(files: &[PolicyFile]) -> Result<Self, Vec<Diagnostic>> {
        let mut read = Vec::with_capacity(files.len());
        let mut wrong = Vec::new();
        let mut left = MAX_QUESTIONS;
        for file in files {
            let (suite, mistakes) = read::file(file, &mut left);
            read.push(suite);
            wrong.extend(mistakes);
        }
        if wrong.is_empty() { Ok(Self { files: read }) } else { Err(wrong) }
    }

    /// Users whose groups no file says, so that whoever runs the tests has to.
    #[must_use]
    pub fn users(&self) -> BTreeSet<&UserName> {
        let questions = self.files.iter().flat_map(|file| &file.cases).flat_map(|case| &case.questions);
        questions
            .map(|question| &question.subject)
            .filter(|subject| subject.groups.is_none())
            .map(|it| &it.user)
            .collect()
    }

    /// How many files there are.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Whether no case asks for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.iter().all(|file| file.cases.is_empty())
    }
}

/// A value with its place in the file.
#[derive(Debug, Clone)]
struct Placed<T> {
    value: T,
    at: Range<usize>,
}

#[cfg(test)]
mod tests;
