//! sshd: what counts, for whom, and whose keys open what.

pub(crate) mod config;
pub(crate) mod keys;

use std::collections::{BTreeMap, BTreeSet};

use crate::accounts::{Account, Accounts};
use crate::finding::{Area, Evidence, Severity};
use crate::kinds;
use crate::notes::Notes;
use crate::source::{MAX_CONFIG, ReadError, Source};
use config::{Effective, SshdConfig};
use keys::Key;

/// Where sshd looks.
const FILE: &str = "/etc/ssh/sshd_config";
/// Host keys, where the configuration names none (Debian's and everybody's defaults).
const HOST_KEYS: [&str; 3] =
    ["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key"];
/// Most homes whose keys are read.
const MAX_HOMES: usize = 10_000;

/// Parts of names of algorithms that are broken or too small, each with the keyword that lists them.
const WEAK: [(&str, &[&str]); 6] = [
    ("ciphers", &["arcfour", "-cbc", "3des"]),
    ("macs", &["hmac-md5", "hmac-sha1", "umac-64"]),
    ("kexalgorithms", &["group1-sha1", "group14-sha1", "group-exchange-sha1"]),
    ("hostkeyalgorithms", &["ssh-dss", "ssh-rsa"]),
    ("pubkeyacceptedalgorithms", &["ssh-dss", "ssh-rsa"]),
    ("casignaturealgorithms", &["ssh-dss", "ssh-rsa"]),
];

/// What is known about SSH.
#[derive(Debug, Default)]
pub(crate) struct Ssh {
    /// Whether there is a configuration of sshd.
    pub configured: bool,
    pub ports: Vec<u16>,
    /// Somebody gets in with a password alone.
    pub takes_passwords: bool,
    /// Certificates of an authority are taken.
    pub has_authority: bool,
    pub keys: usize,
    pub keys_in_hardware: usize,
    /// Each sign-in leaves a trace.
    pub logs: bool,
}

/// Looks at sshd.
pub(crate) fn look(source: &Source, accounts: &Accounts, notes: &mut Notes) -> Ssh {
    let config = SshdConfig::read(source, FILE, notes);
    let mut ssh = Ssh { configured: config.is_some(), ..Ssh::default() };
    let effective = config.as_ref().map(|config| config.effective(None)).unwrap_or_default();
    if let Some(config) = &config {
        judge(config, &effective, &mut ssh, notes);
        host_keys(source, &effective, notes);
    }
    // Keys wait in homes also where no sshd runs now; without one they open nothing.
    if config.is_some() {
        authorised(source, &effective, accounts, &mut ssh, notes);
    }
    ssh
}

/// Whether a password alone is enough.
fn password_is_enough(settings: &Effective) -> bool {
    let asks = settings.says_yes("passwordauthentication")
        || (settings.says_yes("kbdinteractiveauthentication") && settings.says_yes("usepam"));
    let methods = settings.values("authenticationmethods");
    let alone = methods.iter().any(|list| {
        *list == "any"
            || list.split(',').all(|one| one.starts_with("password") || one.starts_with("keyboard-interactive"))
    });
    asks && alone
}

fn judge(config: &SshdConfig, effective: &Effective, ssh: &mut Ssh, notes: &mut Notes) {
    ssh.ports = effective.values("port").iter().filter_map(|port| port.parse().ok()).collect();
    ssh.takes_passwords = password_is_enough(effective);
    ssh.has_authority = !matches!(effective.word("trustedusercakeys").as_str(), "" | "none");
    ssh.logs = !matches!(effective.word("loglevel").as_str(), "quiet" | "fatal" | "error");
    let seen = |keyword: &str| effective.evidence(keyword, FILE);
    if ssh.takes_passwords {
        let keyword = if effective.says_yes("passwordauthentication") {
            "passwordauthentication"
        } else {
            "kbdinteractiveauthentication"
        };
        notes.find(
            &kinds::SSH_PASSWORD_LOGIN,
            "sshd",
            "Whoever knows or guesses a password gets in over SSH.",
            seen(keyword),
        );
    }
    match effective.word("permitrootlogin").as_str() {
        "yes" if ssh.takes_passwords => notes.find_as(
            &kinds::SSH_ROOT_LOGIN,
            Severity::High,
            "sshd",
            "root may sign in over SSH, with a password.",
            seen("permitrootlogin"),
        ),
        "yes" => notes.find(&kinds::SSH_ROOT_LOGIN, "sshd", "root may sign in over SSH.", seen("permitrootlogin")),
        "prohibit-password" => notes.find_as(
            &kinds::SSH_ROOT_LOGIN,
            Severity::Low,
            "sshd",
            "root may sign in over SSH with a key, so the log can't tell who it was.",
            seen("permitrootlogin"),
        ),
        _ => {}
    }
    for (keyword, bad, kind, what) in SWITCHES {
        if effective.word(keyword) == *bad {
            notes.find(kind, "sshd", *what, seen(keyword));
        }
    }
    if !ssh.logs {
        notes.find(&kinds::SSH_QUIET_LOG, "sshd", "sshd logs no sign-ins.", seen("loglevel"));
    }
    if !effective.says_yes("disableforwarding")
        && !matches!(effective.word("allowtcpforwarding").as_str(), "no" | "remote")
    {
        let what = "Whoever has an SSH account reaches everything that this host reaches.";
        notes.find(&kinds::SSH_FORWARDING, "sshd", what, seen("allowtcpforwarding"));
    }
    if ["allowusers", "allowgroups"].iter().all(|keyword| effective.lines(keyword).is_empty()) {
        let what = "No `AllowUsers` and no `AllowGroups` says who may sign in.";
        notes.find(&kinds::SSH_EVERY_ACCOUNT, "sshd", what, vec![Evidence::file(FILE, "neither is set")]);
    }
    for (keyword, weak) in WEAK {
        for line in effective.lines(keyword) {
            weak_algorithms(line, weak, "sshd", notes);
        }
    }
    if let Some(line) =
        effective.lines("authorizedkeyscommand").first().filter(|line| !line.values.iter().any(|v| v == "none"))
    {
        let why = "keys also come from a program, which is not started here";
        notes.gap(
            Area::Ssh,
            &line.file,
            Some(line.line),
            why,
            "run the program for each account, and look at what it prints",
        );
    }
    conditional(config, effective, ssh, notes);
}

/// Switches, their bad value, and what follows.
static SWITCHES: &[(&str, &str, &kinds::Kind, &str)] = &[
    (
        "permitemptypasswords",
        "yes",
        &kinds::SSH_EMPTY_PASSWORDS,
        "Accounts with an empty password are open to everybody.",
    ),
    ("gatewayports", "yes", &kinds::SSH_GATEWAY_PORTS, "Tunnels that users open to this host listen to everybody."),
    (
        "gatewayports",
        "clientspecified",
        &kinds::SSH_GATEWAY_PORTS,
        "Tunnels that users open to this host may listen to everybody.",
    ),
    (
        "hostbasedauthentication",
        "yes",
        &kinds::SSH_HOST_BASED,
        "Other hosts say who their users are, and sshd believes it.",
    ),
    (
        "permituserenvironment",
        "yes",
        &kinds::SSH_USER_ENVIRONMENT,
        "Users may set variables that change what their programs load.",
    ),
    ("strictmodes", "no", &kinds::SSH_NO_STRICT_MODES, "Keys count also where others may write them."),
];

/// What `Match` blocks loosen.
fn conditional(config: &SshdConfig, effective: &Effective, ssh: &mut Ssh, notes: &mut Notes) {
    for (block, line) in config.conditional() {
        let value = line.values.first().map(|value| value.to_ascii_lowercase()).unwrap_or_default();
        let subject = format!("sshd, {}", block.text);
        let evidence = || vec![line.evidence()];
        let yes = matches!(value.as_str(), "yes" | "true");
        match line.keyword.as_str() {
            "passwordauthentication" if yes && !effective.says_yes("passwordauthentication") => {
                ssh.takes_passwords = true;
                let what = format!("Passwords are enough for those of `{}`.", block.text);
                notes.find(&kinds::SSH_PASSWORD_LOGIN, subject, what, evidence());
            }
            "permitrootlogin" if yes && effective.word("permitrootlogin") != "yes" => {
                let what = format!("root may sign in where `{}` holds.", block.text);
                notes.find(&kinds::SSH_ROOT_LOGIN, subject, what, evidence());
            }
            keyword => {
                let loosened = SWITCHES
                    .iter()
                    .filter(|(name, bad, ..)| *name == keyword && *bad == value && effective.word(keyword) != *bad);
                for (_, _, kind, what) in loosened {
                    notes.find(kind, &subject, format!("{what} That is so where `{}` holds.", block.text), evidence());
                }
                for (_, weak) in WEAK.iter().filter(|(name, _)| *name == keyword) {
                    weak_algorithms(&line, weak, &subject, notes);
                }
            }
        }
    }
}

fn weak_algorithms(line: &config::Directive, weak: &[&str], subject: &str, notes: &mut Notes) {
    let list = line.values.join(",");
    // A list behind `-` takes away.
    if list.starts_with('-') {
        return;
    }
    let offered = list.trim_start_matches(['+', '^']).split(',');
    let bad: Vec<&str> = offered
        .filter(|name| {
            weak.iter().any(|part| if part.starts_with("ssh-") { name == part } else { name.contains(part) })
        })
        .collect();
    if !bad.is_empty() {
        let what = format!("`{}` offers {}.", line.keyword, crate::text::short(&bad.join(", "), 120));
        notes.find(&kinds::SSH_WEAK_ALGORITHMS, format!("{subject}, {}", line.keyword), what, vec![line.evidence()]);
    }
}

fn host_keys(source: &Source, effective: &Effective, notes: &mut Notes) {
    let named = effective.values("hostkey");
    let files: Vec<&str> = if named.is_empty() { HOST_KEYS.to_vec() } else { named };
    for file in files {
        let stat = match source.stat(file) {
            Ok(stat) => stat,
            Err(error) => {
                notes.unreadable(Area::Ssh, file, error);
                continue;
            }
        };
        // Some systems let a group of its own read them, for a helper of host-based sign-in.
        if stat.mode & 0o007 != 0 || stat.mode & 0o020 != 0 {
            let seen = Evidence::file(file, format!("mode {:04o}{}", stat.mode, collected(source)));
            notes.find(
                &kinds::SSH_HOST_KEY_READABLE,
                file,
                "Others than root may read or write this host's private key.",
                vec![seen],
            );
        }
        let public = format!("{file}.pub");
        let Ok(bytes) = source.bytes(&public, MAX_CONFIG) else { continue };
        for key in keys::authorised(&String::from_utf8_lossy(&bytes)).0 {
            if let Some(why) = key.weakness().filter(|_| key.bits.is_none_or(|bits| bits < 2_048)) {
                let seen = Evidence::file(&public, key.label());
                notes.find(
                    &kinds::SSH_HOST_KEY_WEAK,
                    file,
                    format!("A key that proves this host is weak: {why}."),
                    vec![seen],
                );
            }
        }
    }
}

fn collected(source: &Source) -> &'static str {
    if source.label().is_some() { ", of the collected copy" } else { "" }
}

/// The names of an account's files of keys.
fn files_of(effective: &Effective, account: &Account) -> Vec<String> {
    let names = effective.values("authorizedkeysfile").into_iter().filter(|name| *name != "none");
    let full = names.map(|name| {
        let mut expanded = String::new();
        let mut letters = name.chars();
        while let Some(letter) = letters.next() {
            match (letter, if letter == '%' { letters.next() } else { None }) {
                ('%', Some('h')) => expanded.push_str(&account.home),
                ('%', Some('u')) => expanded.push_str(&account.name),
                ('%', Some('U')) => expanded.push_str(&account.uid.to_string()),
                ('%', Some(other)) => expanded.push(other),
                _ => expanded.push(letter),
            }
        }
        if expanded.starts_with('/') { expanded } else { format!("{}/{expanded}", account.home.trim_end_matches('/')) }
    });
    full.collect()
}

fn authorised(source: &Source, effective: &Effective, accounts: &Accounts, ssh: &mut Ssh, notes: &mut Notes) {
    let mut holders: BTreeMap<String, Vec<(String, Evidence)>> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    let mut read = BTreeSet::new();
    for account in accounts.all.iter().take(MAX_HOMES) {
        for file in files_of(effective, account) {
            let bytes = match source.bytes(&file, MAX_CONFIG) {
                Ok(bytes) => bytes,
                Err(ReadError::Missing) => continue,
                Err(ReadError::Denied) => {
                    refused.insert(account.name.clone());
                    continue;
                }
                Err(error) => {
                    notes.unreadable(Area::Ssh, &file, error);
                    continue;
                }
            };
            let text = String::from_utf8_lossy(&bytes);
            notes.have_read(Area::Ssh, &file);
            let (found, broken) = keys::authorised(&text);
            if read.insert(file.clone()) {
                for (line, why) in broken {
                    notes.gap(
                        Area::Ssh,
                        &file,
                        Some(line),
                        format!("not read as a key: {why}"),
                        "mend or remove the line",
                    );
                }
                ssh.keys += found.len();
                ssh.keys_in_hardware += found.iter().filter(|key| key.is_in_hardware()).count();
            }
            permissions(source, account, &file, notes);
            for key in &found {
                judge_key(account, &file, key, notes);
                let seen = Evidence { file: file.clone(), line: Some(key.line), text: key.label() };
                holders.entry(key.blob.clone()).or_default().push((account.name.clone(), seen));
            }
        }
    }
    for (blob, holders) in holders {
        let names: BTreeSet<&str> = holders.iter().map(|(name, _)| name.as_str()).collect();
        if names.len() > 1 {
            let end = blob.get(blob.len().saturating_sub(8)..).unwrap_or_default();
            let list = crate::text::short(&names.iter().copied().collect::<Vec<_>>().join(", "), 150);
            let what = format!("One key opens {} accounts: {list}.", names.len());
            let seen: Vec<Evidence> = holders.into_iter().map(|(_, seen)| seen).take(20).collect();
            notes.find(&kinds::SSH_KEY_SHARED, format!("key …{end}"), what, seen);
        }
    }
    if !refused.is_empty() {
        let count = refused.len();
        let names = crate::text::short(&refused.into_iter().collect::<Vec<_>>().join(", "), 150);
        let why = format!("authorised keys of {count} accounts may not be read by this user: {names}");
        notes.gap(Area::Ssh, "", None, why, "run this as root");
    }
}

fn judge_key(account: &Account, file: &str, key: &Key, notes: &mut Notes) {
    let seen = || vec![Evidence { file: file.to_owned(), line: Some(key.line), text: key.label() }];
    let end = key.blob.get(key.blob.len().saturating_sub(8)..).unwrap_or_default();
    let subject = format!("{}, key …{end}", account.name);
    if let Some(why) = key.weakness() {
        let severity = if key.bits.is_some_and(|bits| bits >= 2_048) { Severity::Low } else { Severity::High };
        let what = format!("A key that opens `{}` is weak: {why}.", account.name);
        notes.find_as(&kinds::SSH_KEY_WEAK, severity, &subject, what, seen());
    }
    if account.uid == 0 && !key.is_confined() && !key.is_authority() {
        let what = format!("A key opens `{}` directly, from everywhere and for everything.", account.name);
        notes.find(&kinds::SSH_KEY_OF_ROOT, subject, what, seen());
    }
}

/// Who may write the file or put another in its place.
fn permissions(source: &Source, account: &Account, file: &str, notes: &mut Notes) {
    let mut path = file;
    let mut seen = Vec::new();
    while let Ok(stat) = source.stat(path) {
        let foreign = source.label().is_none() && stat.uid != account.uid && stat.uid != 0;
        // A folder with the sticky bit lets nobody replace what is another's.
        let sticky = stat.mode & 0o1000 != 0 && path != file;
        if (stat.mode & 0o022 != 0 && !sticky) || foreign {
            let owner = if foreign { format!(", owned by user {}", stat.uid) } else { String::new() };
            seen.push(Evidence::file(path, format!("mode {:04o}{owner}{}", stat.mode, collected(source))));
        }
        if path == account.home || path.is_empty() {
            break;
        }
        let Some((folder, _)) = path.rsplit_once('/') else { break };
        if !folder.starts_with(account.home.trim_end_matches('/')) {
            break;
        }
        path = folder;
    }
    if !seen.is_empty() {
        let what = format!("Others may add keys that open `{}`.", account.name);
        notes.find(&kinds::SSH_KEYS_WRITABLE, &account.name, what, seen);
    }
}
