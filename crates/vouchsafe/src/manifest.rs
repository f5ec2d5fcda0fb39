//! A directory of TOML and Cedar files as a manifest (`docs/spec/manifest.md`).
//!
//! What a manifest lists is complete, so a file that is silently passed over would remove things.
//! Therefore: links are refused, not followed and not skipped; unknown members are mistakes; and all
//! mistakes are told at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vouchsafe_wire::api::{Diagnostic, GroupDoc, Manifest, PolicyFileDoc};
use vouchsafe_wire::resource::ResourceDoc;

/// Largest file, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// All files together, bytes: what the API takes, less its framing.
const MAX_TOTAL_BYTES: usize = 3 << 20;
/// Most files.
const MAX_FILES: usize = 2_000;
/// Folder of tests of the policy.
const TESTS: &str = "tests";
/// Folder of what is to be proven of it.
const INVARIANTS: &str = "invariants";
/// Deepest folder.
const MAX_DEPTH: usize = 16;

/// Failure to read a directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// A file or folder can't be read.
    #[error("can't read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A link, which may lead anywhere.
    #[error("`{}` is a symbolic link, and links are not followed; put the file itself there", path.display())]
    Link {
        /// Which.
        path: PathBuf,
    },
    /// Too much.
    #[error("`{}` holds {what}", path.display())]
    TooMuch {
        /// The directory or file.
        path: PathBuf,
        /// What there is too much of.
        what: String,
    },
    /// A policy among tests or invariants, where nobody would look for one that is in force.
    #[error(
        "`{}` would be a policy in force like any other; move it out of the folder `{folder}`, whose files are TOML",
        path.display()
    )]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// The folder.
        folder: &'static str,
    },
    /// Nothing to apply.
    #[error("`{}` holds no `.toml` and no `.cedar` file", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// Mistakes in the files.
    #[error("the files in `{}` can't be used", path.display())]
    Mistakes {
        /// The directory.
        path: PathBuf,
        /// Every mistake.
        diagnostics: Vec<Diagnostic>,
        /// The files they are in.
        files: Vec<PolicyFileDoc>,
    },
}

/// One TOML file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlFile {
    // `[[resources]]`, as in the API; one table at a time also reads well as `[[resource]]`.
    #[serde(alias = "resource")]
    resources: Option<Vec<toml::Spanned<ResourceDoc>>>,
    #[serde(alias = "group")]
    groups: Option<Vec<toml::Spanned<GroupDoc>>>,
}

/// A policy as files.
#[derive(Debug)]
pub(crate) struct PolicyDir {
    /// Cedar files.
    pub(crate) files: Vec<PolicyFileDoc>,
    /// Files of tests; `None` when there are none.
    pub(crate) tests: Option<Vec<PolicyFileDoc>>,
    /// Files of what is to be proven; `None` when there are none.
    pub(crate) invariants: Option<Vec<PolicyFileDoc>>,
}

/// Reads every `.cedar` file of a directory tree, and the tests and invariants beside them, sorted by name.
///
/// # Errors
/// [`ManifestError`].
pub(crate) fn policy(dir: &Path) -> Result<PolicyDir, ManifestError> {
    let (files, others): (Vec<_>, Vec<_>) = read(dir)?.into_iter().partition(|file| is_cedar(&file.name));
    if files.is_empty() {
        return Err(ManifestError::Empty { path: dir.to_owned() });
    }
    let some = |is: fn(&str) -> bool| {
        let all: Vec<PolicyFileDoc> = others.iter().filter(|file| is(&file.name)).cloned().collect();
        Some(all).filter(|all| !all.is_empty())
    };
    Ok(PolicyDir { files, tests: some(is_test), invariants: some(is_invariant) })
}

/// [`policy`] without what is beside the policies.
///
/// # Errors
/// [`ManifestError`].
pub(crate) fn policy_files(dir: &Path) -> Result<Vec<PolicyFileDoc>, ManifestError> {
    policy(dir).map(|policy| policy.files)
}

/// Reads every file of a directory tree that says what is to be proven, sorted by name.
///
/// # Errors
/// [`ManifestError`].
pub(crate) fn invariant_files(dir: &Path) -> Result<Vec<PolicyFileDoc>, ManifestError> {
    Ok(read(dir)?.into_iter().filter(|file| is_invariant(&file.name)).collect())
}

/// Reads a directory tree as a manifest.
///
/// # Errors
/// [`ManifestError`].
pub(crate) fn load(dir: &Path) -> Result<Manifest, ManifestError> {
    let files = read(dir)?;
    if files.is_empty() {
        return Err(ManifestError::Empty { path: dir.to_owned() });
    }
    let mut gathered = Gathered::default();
    for file in &files {
        if is_cedar(&file.name) {
            gathered.manifest.policy.get_or_insert_default().push(file.clone());
        } else if is_test(&file.name) {
            gathered.manifest.tests.get_or_insert_default().push(file.clone());
        } else if is_invariant(&file.name) {
            gathered.manifest.invariants.get_or_insert_default().push(file.clone());
        } else {
            gathered.take_toml(file);
        }
    }
    let Gathered { manifest, diagnostics, .. } = gathered;
    if diagnostics.is_empty() {
        Ok(manifest)
    } else {
        Err(ManifestError::Mistakes { path: dir.to_owned(), diagnostics, files })
    }
}

fn is_cedar(name: &str) -> bool {
    name.ends_with(".cedar")
}

/// Whether a file holds tests of the policy.
fn is_test(name: &str) -> bool {
    name.ends_with(".toml") && is_below(name, TESTS)
}

/// Whether a file says what is to be proven of the policy.
fn is_invariant(name: &str) -> bool {
    name.ends_with(".toml") && is_below(name, INVARIANTS)
}

fn is_below(name: &str, wanted: &str) -> bool {
    name.rsplit('/').skip(1).any(|folder| folder == wanted)
}

#[derive(Default)]
struct Gathered {
    manifest: Manifest,
    diagnostics: Vec<Diagnostic>,
    /// Where each thing was first seen.
    seen: BTreeMap<String, String>,
}

impl Gathered {
    fn take_toml(&mut self, file: &PolicyFileDoc) {
        let TomlFile { resources, groups } = match toml::from_str(&file.text) {
            Ok(read) => read,
            Err(error) => {
                let span = error.span().unwrap_or_default();
                return self.mistake(file, span, "toml", error.message().to_owned(), None);
            }
        };
        if let Some(resources) = resources {
            self.manifest.resources.get_or_insert_default();
            for resource in resources {
                let span = resource.span();
                let resource = resource.into_inner();
                if let Err(error) = resource.to_resource() {
                    self.mistake(file, span.clone(), "resource", error.to_string(), None);
                }
                self.first(file, span, &format!("resource `{}`", resource.name));
                self.manifest.resources.get_or_insert_default().push(resource);
            }
        }
        if let Some(groups) = groups {
            self.manifest.groups.get_or_insert_default();
            for group in groups {
                let span = group.span();
                let group = group.into_inner();
                if let Err(error) = vouchsafe_model::name::GroupName::parse(&group.name) {
                    self.mistake(file, span.clone(), "group", error.to_string(), None);
                }
                self.first(file, span, &format!("group `{}`", group.name));
                self.manifest.groups.get_or_insert_default().push(group);
            }
        }
    }

    fn first(&mut self, file: &PolicyFileDoc, span: std::ops::Range<usize>, what: &str) {
        if let Some(before) = self.seen.insert(what.to_owned(), file.name.clone()) {
            let hint = format!("remove one of the two; the other is in `{before}`");
            self.mistake(file, span, "duplicate", format!("{what} is there twice"), Some(hint));
        }
    }

    fn mistake(
        &mut self,
        file: &PolicyFileDoc,
        span: std::ops::Range<usize>,
        code: &str,
        message: String,
        hint: Option<String>,
    ) {
        let before = file.text.get(..span.start).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let line = before.matches('\n').count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        // Of a table only its heading is marked: a mark over many lines hides more than it shows.
        let marked = file.text.get(span.clone()).unwrap_or_default().lines().next().unwrap_or_default().len();
        self.diagnostics.push(Diagnostic {
            severity: "error".to_owned(),
            code: code.to_owned(),
            message: message.replace('\n', " "),
            file: file.name.clone(),
            line: number(line),
            column: number(column),
            offset: span.start,
            length: marked.max(1),
            hint,
        });
    }
}

/// Every TOML and Cedar file below a directory, sorted by path.
fn read(dir: &Path) -> Result<Vec<PolicyFileDoc>, ManifestError> {
    let mut paths = Vec::new();
    walk(dir, dir, 0, &mut paths)?;
    paths.sort();
    let mut total = 0;
    let mut files = Vec::new();
    for (name, path) in paths {
        if let Some(folder) = [TESTS, INVARIANTS].into_iter().find(|folder| is_cedar(&name) && is_below(&name, folder))
        {
            return Err(ManifestError::Misplaced { path, folder });
        }
        let text = read_file(&path)?;
        total += text.len();
        if total > MAX_TOTAL_BYTES {
            let what = format!("more than {} MiB of files", MAX_TOTAL_BYTES >> 20);
            return Err(ManifestError::TooMuch { path: dir.to_owned(), what });
        }
        files.push(PolicyFileDoc { name, text });
    }
    Ok(files)
}

fn walk(root: &Path, dir: &Path, depth: usize, found: &mut Vec<(String, PathBuf)>) -> Result<(), ManifestError> {
    let failed = |source| ManifestError::Read { path: dir.to_owned(), source };
    if depth > MAX_DEPTH {
        let what = format!("folders more than {MAX_DEPTH} deep");
        return Err(ManifestError::TooMuch { path: root.to_owned(), what });
    }
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        // `.git` and the like.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let ours = path.extension().is_some_and(|extension| extension == "toml" || extension == "cedar");
        if kind.is_symlink() && (ours || path.is_dir()) {
            return Err(ManifestError::Link { path });
        }
        if kind.is_dir() {
            walk(root, &path, depth + 1, found)?;
        } else if kind.is_file() && ours {
            if found.len() >= MAX_FILES {
                let what = format!("more than {MAX_FILES} files");
                return Err(ManifestError::TooMuch { path: root.to_owned(), what });
            }
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.push((name, path));
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<String, ManifestError> {
    let failed = |source| ManifestError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let what = format!("more than {} MiB", MAX_FILE_BYTES >> 20);
        return Err(ManifestError::TooMuch { path: path.to_owned(), what });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
