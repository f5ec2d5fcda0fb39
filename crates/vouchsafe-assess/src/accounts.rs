//! Users and groups: `passwd`, `shadow` and `group`. Of passwords only their state is kept, never a hash.

use std::collections::BTreeMap;

use crate::Options;
use crate::finding::{Area, Evidence};
use crate::kinds;
use crate::notes::Notes;
use crate::source::Source;
use crate::text::numbered;

/// Most accounts or groups.
const MAX_ENTRIES: usize = 50_000;
/// Days after which a password counts as old.
const OLD_DAYS: u64 = 5 * 365;
/// Groups whose members are root in all but name, and why.
pub(crate) const ROOT_GROUPS: [(&str, &str); 6] = [
    ("docker", "they command the container engine"),
    ("lxd", "they command the container engine"),
    ("incus-admin", "they command the container engine"),
    ("libvirt", "they command the virtual machines' host"),
    ("disk", "they read and write the raw disks"),
    ("shadow", "they read everybody's password hashes"),
];

/// State of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Password {
    /// `shadow` was not read.
    Unknown,
    /// None opens the account.
    Locked,
    /// The empty one does.
    Empty,
    /// Under a hash that is broken, and which.
    Weak(&'static str),
    /// Under a hash of today.
    Set,
}

/// An account.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    /// It has a shell that lets somebody in.
    pub may_log_in: bool,
    pub password: Password,
    pub line: usize,
    /// The second field of `passwd` is empty.
    unguarded: bool,
}

/// A group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
    pub line: usize,
}

/// Accounts and groups.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    pub all: Vec<Account>,
    pub groups: Vec<Group>,
    /// Accounts also come from a directory of the company.
    pub central: bool,
}

impl Accounts {
    /// Everybody in a group, also by the account's own group.
    pub(crate) fn members<'a>(&'a self, group: &'a Group) -> Vec<&'a str> {
        let own = self.all.iter().filter(|account| account.gid == group.gid && account.uid != 0 && account.may_log_in);
        let mut members: Vec<&str> =
            group.members.iter().map(String::as_str).chain(own.map(|account| account.name.as_str())).collect();
        members.sort_unstable();
        members.dedup();
        members
    }
}

/// State and age of a password, of a line of `shadow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shadow {
    password: Password,
    changed_days: Option<u64>,
    line: usize,
}

type Broken = Vec<(usize, &'static str)>;

fn passwd(text: &str) -> (Vec<Account>, Broken) {
    let mut broken = Vec::new();
    let accounts = entries(text, &mut broken, |line, fields| {
        let [name, password, uid, gid, _gecos, home, shell] = fields else { return Err("it has not seven fields") };
        let number = |text: &str| text.parse::<u32>().map_err(|_| "a number of a user or group is none");
        let closed = ["nologin", "false", "sync", "halt", "shutdown"].iter().any(|end| shell.ends_with(end));
        Ok(Account {
            name: (*name).to_owned(),
            uid: number(uid)?,
            gid: number(gid)?,
            home: (*home).to_owned(),
            may_log_in: !closed,
            password: Password::Unknown,
            line,
            unguarded: password.is_empty(),
        })
    });
    (accounts, broken)
}

fn group(text: &str) -> (Vec<Group>, Broken) {
    let mut broken = Vec::new();
    let groups = entries(text, &mut broken, |line, fields| {
        let [name, _password, gid, members] = fields else { return Err("it has not four fields") };
        let gid = gid.parse().map_err(|_| "the number of the group is none")?;
        let members = members.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Group { name: (*name).to_owned(), gid, members, line })
    });
    (groups, broken)
}

fn shadow(text: &str) -> (BTreeMap<String, Shadow>, Broken) {
    let mut broken = Vec::new();
    let known = entries(text, &mut broken, |line, fields| {
        let [name, hash, changed, ..] = fields else { return Err("it has not nine fields") };
        Ok(((*name).to_owned(), Shadow { password: state(hash), changed_days: changed.parse().ok(), line }))
    });
    (known.into_iter().collect(), broken)
}

fn state(hash: &str) -> Password {
    match hash {
        "" => Password::Empty,
        _ if hash.starts_with(['!', '*']) => Password::Locked,
        _ if hash.starts_with("$1$") => Password::Weak("MD5"),
        _ if hash.starts_with("$3$") => Password::Weak("NT"),
        _ if hash.starts_with('$') => Password::Set,
        _ if hash.len() == 13 || hash.starts_with('_') => Password::Weak("DES"),
        // No hash that any password gives.
        _ => Password::Locked,
    }
}

fn entries<T>(
    text: &str,
    broken: &mut Broken,
    mut entry: impl FnMut(usize, &[&str]) -> Result<T, &'static str>,
) -> Vec<T> {
    let mut found = Vec::new();
    for (number, line) in numbered(text) {
        // `+` and `-` are directives of NIS.
        if line.trim().is_empty() || line.starts_with(['#', '+', '-']) {
            continue;
        }
        if found.len() >= MAX_ENTRIES {
            broken.push((number, "too many entries; the rest was left out"));
            break;
        }
        match entry(number, &line.split(':').collect::<Vec<_>>()) {
            Ok(entry) => found.push(entry),
            Err(why) => broken.push((number, why)),
        }
    }
    found
}

/// Looks at accounts and groups.
pub(crate) fn look(source: &Source, options: &Options, notes: &mut Notes) -> Accounts {
    let mut read = |file: &str| notes.text(Area::Accounts, source, file);
    let (passwd_text, group_text, shadow_text) = (read("/etc/passwd"), read("/etc/group"), read("/etc/shadow"));
    let nsswitch = read("/etc/nsswitch.conf").unwrap_or_default();
    let mut accounts = Accounts { central: is_central(&nsswitch), ..Accounts::default() };
    let mut all_broken = Vec::new();
    let mut lines = BTreeMap::new();
    if let Some(text) = &passwd_text {
        let (all, broken) = passwd(text);
        accounts.all = all;
        all_broken.push(("/etc/passwd", broken));
        lines = numbered(text).collect::<BTreeMap<_, _>>();
    }
    if let Some(text) = &group_text {
        let (groups, broken) = group(text);
        accounts.groups = groups;
        all_broken.push(("/etc/group", broken));
    }
    if let Some(text) = &shadow_text {
        let (known, broken) = shadow(text);
        all_broken.push(("/etc/shadow", broken));
        for account in &mut accounts.all {
            if let Some(entry) = known.get(&account.name) {
                account.password = entry.password;
                judge_password(account, *entry, options.now, notes);
            }
        }
    }
    for (file, broken) in all_broken {
        for (line, why) in broken {
            notes.broken(Area::Accounts, file, line, format!("the entry was left out: {why}"));
        }
    }
    judge(&accounts, &lines, notes);
    accounts
}

fn is_central(nsswitch: &str) -> bool {
    let passwd = nsswitch.lines().filter_map(|line| line.trim().strip_prefix("passwd:"));
    passwd.flat_map(str::split_whitespace).any(|word| matches!(word, "sss" | "ldap" | "winbind" | "nis"))
}

fn judge_password(account: &Account, entry: Shadow, now: u64, notes: &mut Notes) {
    let seen = |what: String| vec![Evidence { file: "/etc/shadow".to_owned(), line: Some(entry.line), text: what }];
    let name = &account.name;
    match entry.password {
        Password::Empty => notes.find(
            &kinds::ACCOUNT_EMPTY_PASSWORD,
            name,
            format!("`{name}` opens with an empty password."),
            seen(format!("{name}: empty")),
        ),
        Password::Weak(hash) => notes.find(
            &kinds::ACCOUNT_WEAK_HASH,
            name,
            format!("The password of `{name}` is kept under {hash}, which is quick to guess."),
            seen(format!("{name}: a hash of {hash}")),
        ),
        Password::Set | Password::Locked | Password::Unknown => {}
    }
    let usable = matches!(entry.password, Password::Set | Password::Weak(_));
    let age = entry.changed_days.map(|day| (now / 86_400).saturating_sub(day));
    if let Some(days) = age.filter(|days| usable && account.may_log_in && *days > OLD_DAYS) {
        let what = format!("The password of `{name}` was last changed {} years ago.", days / 365);
        notes.find(&kinds::ACCOUNT_OLD_PASSWORD, name, what, seen(format!("{name}: changed {days} days ago")));
    }
}

fn judge(accounts: &Accounts, lines: &BTreeMap<usize, &str>, notes: &mut Notes) {
    let seen = |account: &Account| {
        Evidence::line("/etc/passwd", account.line, lines.get(&account.line).copied().unwrap_or_default())
    };
    let mut by_uid: BTreeMap<u32, Vec<&Account>> = BTreeMap::new();
    for account in &accounts.all {
        by_uid.entry(account.uid).or_default().push(account);
        if account.unguarded {
            let what = format!("`{}` has no password at all, not even in `shadow`.", account.name);
            // Its text is the entry itself, whose second field is empty.
            notes.find(&kinds::ACCOUNT_EMPTY_PASSWORD, &account.name, what, vec![seen(account)]);
        }
    }
    for (uid, same) in by_uid {
        let [first, second, ..] = same.as_slice() else { continue };
        if uid == 0 {
            for other in same.iter().filter(|account| account.name != "root") {
                let what = format!("`{}` has the number 0, so it is root under another name.", other.name);
                notes.find(&kinds::ACCOUNT_SECOND_ROOT, &other.name, what, vec![seen(other)]);
            }
        } else {
            let what = format!("`{}` and `{}` have the same number, {uid}.", first.name, second.name);
            notes.find(
                &kinds::ACCOUNT_SAME_NUMBER,
                format!("{uid}"),
                what,
                same.iter().take(10).map(|a| seen(a)).collect::<Vec<_>>(),
            );
        }
    }
    for group in &accounts.groups {
        let Some((_, why)) = ROOT_GROUPS.iter().find(|(name, _)| *name == group.name) else { continue };
        let members = accounts.members(group);
        if !members.is_empty() {
            let list = crate::text::short(&members.join(", "), 150);
            let what = format!("Members of `{}` are root in all but name, as {why}: {list}.", group.name);
            let text = format!("{}: {list}", group.name);
            let seen = Evidence { file: "/etc/group".to_owned(), line: Some(group.line), text };
            notes.find(&kinds::ACCOUNT_AS_ROOT, &group.name, what, vec![seen]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_state_of_a_password_is_kept_and_nothing_else() {
        for (hash, expected) in [
            ("", Password::Empty),
            ("!", Password::Locked),
            ("*", Password::Locked),
            ("!$6$x$y", Password::Locked),
            ("$1$salt$hash", Password::Weak("MD5")),
            ("abcdefghijklm", Password::Weak("DES")),
            ("$y$j9T$x$y", Password::Set),
            ("$6$x$y", Password::Set),
        ] {
            assert_eq!(state(hash), expected, "{hash}");
        }
    }

    #[test]
    fn broken_entries_are_named_and_the_others_read() {
        let (accounts, broken) =
            passwd("root:x:0:0::/root:/bin/bash\nbroken\nann:x:1x:1::/h:/bin/sh\nbob:x:7:7::/h:/usr/sbin/nologin\n");
        assert_eq!(accounts.len(), 2);
        assert!(accounts[0].may_log_in && !accounts[1].may_log_in);
        assert_eq!(broken, [(2, "it has not seven fields"), (3, "a number of a user or group is none")]);
        let (groups, broken) = group("docker:x:9:ann,bob\nx:y\n");
        assert_eq!(groups[0].members, ["ann", "bob"]);
        assert_eq!(broken.len(), 1);
        assert!(is_central("passwd:  files sss\n") && !is_central("passwd: files systemd\nhosts: ldap\n"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_broken(text in "([a-z:0-9!$*]{0,40}\n){0,6}\\PC{0,40}") {
            let _ = (passwd(&text), group(&text), shadow(&text), is_central(&text));
        }
    }
}
