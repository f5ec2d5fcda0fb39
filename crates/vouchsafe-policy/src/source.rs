//! What decisions are made on, besides the subject and the request.

use vouchsafe_model::grant::Grant;
use vouchsafe_model::resource::Resource;

/// One policy file as an administrator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// File name without folders, such as `finance.cedar`; unique in a source.
    pub name: String,
    /// Cedar policies; at most 1 MiB.
    pub text: String,
}

/// Everything that a set of decisions is made on, besides the subject and the request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicySource {
    /// Number of this version; it stands in every decision.
    pub version: u64,
    /// Policy files, at most 20,000 policies in all.
    pub files: Vec<PolicyFile>,
    /// Rights of one user to one resource.
    pub grants: Vec<Grant>,
    /// Resources. Our own console is there without being named.
    pub resources: Vec<Resource>,
}

/// The policy file that a new installation starts with: administrators may use the console.
#[must_use]
pub fn default_policy() -> PolicyFile {
    PolicyFile { name: "vouchsafe.cedar".to_owned(), text: include_str!("default.cedar").to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_has_nothing_to_complain_about() {
        assert_eq!(crate::check(&[default_policy()]), Vec::new());
    }
}
