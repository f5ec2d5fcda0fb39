//! What was found, in words that a terminal and a page have in common. Not escaped for either.

use std::fmt;

use vouchsafe_model::moment::about;

use crate::difference::{Difference, Example, Shift};
use crate::request::OwnedDetail;
use crate::rights::Way;

impl Way {
    /// What it still asks for, each to be read behind "only" or "when".
    #[must_use]
    pub fn demands(&self) -> Vec<String> {
        let mut demands: Vec<String> = self.conditions.iter().map(|limit| limit.words.clone()).collect();
        if self.enrolled_device {
            demands.push("on an enrolled device".to_owned());
        }
        demands.extend(self.expires.iter().map(|end| format!("until {end}")));
        demands
    }
}

impl Difference {
    /// How many people gain something, and how many lose something.
    #[must_use]
    pub fn people(&self) -> (usize, usize) {
        let count = |which: fn(&crate::Change) -> bool| {
            let changes = self.changes.iter().filter(|change| which(change));
            let names: std::collections::BTreeSet<_> = changes.clone().flat_map(|change| &change.users).collect();
            // A list that was cut short still has its count.
            changes.map(|change| change.count).max().unwrap_or_default().max(names.len())
        };
        (count(|change| change.gains.is_some()), count(|change| change.loses.is_some()))
    }

    /// What it comes to, in one sentence without its full stop.
    #[must_use]
    pub fn in_words(&self) -> String {
        let users = |count: usize| format!("{count} user{}", if count == 1 { "" } else { "s" });
        let words = match (self.people(), self.exact) {
            ((0, 0), true) => "nobody gains or loses anything".to_owned(),
            ((0, 0), false) => "no change was found".to_owned(),
            ((0, loses), true) => format!("this only removes access, of {}", users(loses)),
            ((gains, 0), true) => format!("this only adds access, for {}", users(gains)),
            ((gains, loses), _) => {
                let verb = |count, one, many| if count == 1 { one } else { many };
                let (gain, lose) = (verb(gains, "gains", "gain"), verb(loses, "loses", "lose"));
                format!("{} {gain} access, {} {lose} some", users(gains), users(loses))
            }
        };
        let doubt = if self.exact { "" } else { "; not every case could be tried, so there may be more" };
        format!("{words}{doubt}")
    }
}

impl Shift {
    /// On which devices, in as few words as it takes.
    #[must_use]
    pub fn devices(&self) -> String {
        let all = ["none", "software", "hardware", "hardware-attested"];
        if all.iter().all(|grade| self.grades.iter().any(|each| each == grade)) {
            return "on any device".to_owned();
        }
        let proven = self.grades.iter().filter(|grade| grade.as_str() != "none").count();
        if proven == 3 {
            return "on any enrolled device".to_owned();
        }
        let names: Vec<&str> =
            self.grades.iter().map(|grade| if grade == "none" { "without a device" } else { grade }).collect();
        match names.as_slice() {
            ["without a device"] => "without an enrolled device".to_owned(),
            ["without a device", rest @ ..] => format!("without a device or on one of grade {}", rest.join(" or ")),
            all => format!("on a device of grade {}", all.join(" or ")),
        }
    }
}

/// The request; what is usual is left out.
impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}, ", self.user, self.resource)?;
        match &self.detail {
            OwnedDetail::Http { method, path, host: _ } => write!(f, "{method} {path}")?,
            OwnedDetail::Net { port } => write!(f, "port {port}")?,
            OwnedDetail::Console { operation } => f.write_str(operation)?,
        }
        match self.grade.as_str() {
            "none" => f.write_str(", no proven device")?,
            grade => write!(f, ", {grade} device")?,
        }
        if !self.tags.is_empty() {
            write!(f, ", tagged {}", self.tags.join(" "))?;
        }
        match &self.owner {
            _ if self.grade == "none" => {}
            Some(owner) if *owner == self.user => {}
            Some(owner) => write!(f, ", {owner}'s")?,
            None => f.write_str(", nobody's")?,
        }
        if self.auth_age > 0 {
            write!(f, ", signed in {} ago", about(self.auth_age))?;
        }
        write!(f, ", from {}", self.ip)?;
        if self.post_quantum { f.write_str(", key agreed on post-quantum") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use vouchsafe_model::name::UserName;

    use super::*;

    fn example(grade: &str, owner: Option<&str>) -> Example {
        Example {
            user: UserName::parse("ann").unwrap(),
            resource: "wiki".to_owned(),
            action: "http:read".to_owned(),
            grade: grade.to_owned(),
            device: None,
            owner: owner.map(|owner| UserName::parse(owner).unwrap()),
            tags: vec![],
            auth_age: 90,
            at: 1,
            ip: IpAddr::from([192, 0, 2, 1]),
            post_quantum: false,
            detail: OwnedDetail::Http { method: "GET".to_owned(), path: "/".to_owned(), host: String::new() },
        }
    }

    #[test]
    fn devices_are_told_in_as_few_words_as_it_takes() {
        let of = |grades: &[&str]| {
            let grades = grades.iter().map(|grade| (*grade).to_owned()).collect();
            Shift { grades, example: example("none", None) }.devices()
        };
        assert_eq!(of(&["none", "software", "hardware", "hardware-attested"]), "on any device");
        assert_eq!(of(&["software", "hardware", "hardware-attested"]), "on any enrolled device");
        assert_eq!(of(&["none"]), "without an enrolled device");
        assert_eq!(of(&["none", "software"]), "without a device or on one of grade software");
        assert_eq!(of(&["hardware", "hardware-attested"]), "on a device of grade hardware or hardware-attested");
    }

    #[test]
    fn examples_leave_out_what_is_usual() {
        let rest = "signed in 1 min 30 s ago, from 192.0.2.1";
        assert_eq!(example("none", None).to_string(), format!("ann on wiki, GET /, no proven device, {rest}"));
        assert_eq!(
            example("software", Some("ann")).to_string(),
            format!("ann on wiki, GET /, software device, {rest}")
        );
        assert_eq!(
            example("software", Some("bob")).to_string(),
            format!("ann on wiki, GET /, software device, bob's, {rest}")
        );
        assert_eq!(
            example("software", None).to_string(),
            format!("ann on wiki, GET /, software device, nobody's, {rest}")
        );
    }

    #[test]
    fn what_a_change_comes_to_is_one_sentence() {
        let change = |count: usize, gains: bool, loses: bool| {
            let shift = |is: bool| is.then(|| Shift { grades: vec![], example: example("none", None) });
            let users = vec![UserName::parse("ann").unwrap()];
            let (gains, loses) = (shift(gains), shift(loses));
            crate::Change { count, users, resources: vec![], actions: vec![], gains, loses, before: None, after: None }
        };
        let of = |changes: Vec<crate::Change>, exact| Difference { before: 1, after: 2, changes, exact }.in_words();
        assert_eq!(of(vec![], true), "nobody gains or loses anything");
        assert_eq!(of(vec![change(1, true, false)], true), "this only adds access, for 1 user");
        assert_eq!(of(vec![change(5_000, false, true)], true), "this only removes access, of 5000 users");
        assert_eq!(
            of(vec![change(1, true, true)], false),
            "1 user gains access, 1 user loses some; not every case could be tried, so there may be more"
        );
    }
}
