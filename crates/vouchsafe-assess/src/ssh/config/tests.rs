//! The reader against sshd itself: `sshd -T` for the same files and the same connections.

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// Keywords whose words are compared; sshd prints each on a line of its own.
const COMPARED: [&str; 19] = [
    "permitrootlogin",
    "passwordauthentication",
    "kbdinteractiveauthentication",
    "pubkeyauthentication",
    "permitemptypasswords",
    "hostbasedauthentication",
    "usepam",
    "strictmodes",
    "ignorerhosts",
    "disableforwarding",
    "allowtcpforwarding",
    "allowagentforwarding",
    "gatewayports",
    "permittunnel",
    "x11forwarding",
    "maxauthtries",
    "maxsessions",
    "loglevel",
    "permittty",
];

fn parse(files: &[(&str, &str)]) -> (SshdConfig, Notes, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut notes = Notes::default();
    let config = SshdConfig::read(&Source::collected(dir.path()).unwrap(), "/etc/ssh/sshd_config", &mut notes).unwrap();
    (config, notes, dir)
}

/// What sshd says counts for a connection. Its files have to be where they are for it, so that names in
/// `Include` are absolute.
fn of_sshd(dir: &Path, connection: Option<&str>) -> BTreeMap<String, String> {
    let key = dir.join("key");
    if !key.exists() {
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.expect("ssh-keygen; run ./test, which installs it").success());
    }
    let mut command = Command::new("/usr/sbin/sshd");
    command.arg("-T").arg("-f").arg(dir.join("etc/ssh/sshd_config")).arg("-h").arg(&key);
    if let Some(connection) = connection {
        command.args(["-C", connection]);
    }
    // It wants a folder of its own.
    let _ = fs::create_dir_all("/run/sshd");
    let output = command.output().expect("sshd; run ./test, which installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_lowercase()))
        .collect()
}

fn same(effective: &Effective, of_sshd: &BTreeMap<String, String>, what: &str) {
    for keyword in COMPARED {
        // sshd prints the older of two words for the same.
        let theirs = of_sshd.get(keyword).map(|value| match value.as_str() {
            "without-password" => "prohibit-password",
            "silent" => "quiet",
            other => other,
        });
        assert_eq!(Some(effective.word(keyword).as_str()), theirs, "{keyword} of {what}");
    }
    for keyword in ["allowusers", "denyusers", "allowgroups"] {
        let theirs = of_sshd.get(keyword).cloned().unwrap_or_default();
        // sshd prints a line for each, and the last one is left here.
        let mine = effective.values(keyword).last().map(|value| value.to_lowercase()).unwrap_or_default();
        assert_eq!(mine, theirs, "{keyword} of {what}");
    }
}

/// Configurations with what is hard about them; `DIR` is the folder of the included files.
const CASES: [&str; 6] = [
    "PermitRootLogin yes\nPermitRootLogin no\nInclude DIR/one.conf\nPasswordAuthentication yes\nMaxAuthTries=3\nLogLevel \"VERBOSE\" # more\n",
    "Match User ann,b*\n  PasswordAuthentication no\n  X11Forwarding yes\nMatch User ann\n  X11Forwarding no\n  MaxSessions 2\nMatch all\n  AllowTcpForwarding no\n",
    "Include DIR/match.conf\nAllowTcpForwarding local\nMatch Address 10.0.0.0/8,!10.9.0.0/16\n  PermitRootLogin yes\n  Include DIR/one.conf\nMatch Address 192.168.*\n  GatewayPorts clientspecified\n",
    "AllowUsers ann\nAllowUsers bob@10.0.0.1\nUsePAM yes\nKbdInteractiveAuthentication no\nMatch User root Address 10.0.0.0/8\n AllowUsers root\n PermitTTY no\n",
    "ChallengeResponseAuthentication no\nPermitRootLogin without-password\nMatch Host *.corp.example,!bad.corp.example LocalPort 22\n  PasswordAuthentication no\nMatch User=ann\n  PermitTunnel yes\n",
    "Include DIR/gone*.conf DIR/one.conf\nStrictModes no\nMatch User nobody\n  Include DIR/match.conf\n  LogLevel QUIET\nMatch User *,!ann\n  AllowAgentForwarding no\n",
];

#[test]
fn sshd_reads_the_same() {
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("etc/ssh");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("one.conf"), "PasswordAuthentication no\nMatch User ann\n  MaxAuthTries 9\n").unwrap();
        fs::write(folder.join("match.conf"), "Match User ann\n  PermitRootLogin forced-commands-only\n  LogLevel DEBUG\nMatch all\n  X11Forwarding yes\n").unwrap();
        let place = folder.display().to_string();
        fs::write(folder.join("sshd_config"), case.replace("DIR", &place)).unwrap();
        // The root is `/`, so that both resolve the same names.
        let mut notes = Notes::default();
        let source = Source::host().unwrap();
        let config = SshdConfig::read(&source, &format!("{place}/sshd_config"), &mut notes).unwrap();
        assert_eq!(notes.gaps, [], "{case}");
        // sshd wants to know the port where a block asks for it.
        if !case.contains("LocalPort") {
            same(&config.effective(None), &of_sshd(dir.path(), None), case);
        }
        for (user, host, address) in [
            ("ann", "laptop.corp.example", "10.0.0.1"),
            ("bob", "bad.corp.example", "10.9.0.1"),
            ("root", "x.example", "10.1.2.3"),
            ("nobody", "y.example", "192.168.7.7"),
        ] {
            let connection = Connection {
                user: user.to_owned(),
                host: host.to_owned(),
                address: Some(address.parse().unwrap()),
                local_address: Some("10.0.0.9".parse().unwrap()),
                local_port: 22,
                ..Connection::default()
            };
            let asked = format!("user={user},host={host},addr={address},laddr=10.0.0.9,lport=22");
            let what = format!("{asked} in {case}");
            same(&config.effective(Some(&connection)), &of_sshd(dir.path(), Some(&asked)), &what);
        }
    }
}

#[test]
fn what_sshd_would_not_start_with_is_named() {
    let (config, notes, _dir) = parse(&[
        (
            "/etc/ssh/sshd_config",
            "PasswordAuthentication maybe\nNoSuchKeyword yes\nBanner \"open\nMatch Nothing x\n  PermitRootLogin yes\nMatch all\nPort\nInclude /etc/ssh/loop\n",
        ),
        ("/etc/ssh/loop", "Include /etc/ssh/loop\n"),
    ]);
    let lines: Vec<_> =
        notes.gaps.iter().filter(|gap| gap.file.ends_with("sshd_config")).filter_map(|gap| gap.line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 7]);
    assert!(notes.gaps.iter().any(|gap| gap.why.contains("deep")));
    // A block that isn't understood is nobody's.
    assert_eq!(config.effective(None).word("permitrootlogin"), "prohibit-password");
    assert_eq!(config.conditional().len(), 1);
}

#[test]
fn groups_match_as_sshd_matches_them() {
    let (config, ..) = parse(&[("/etc/ssh/sshd_config", "Match Group staff,!guests\n  X11Forwarding yes\n")]);
    let of = |groups: &[&str]| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        config
            .effective(Some(&Connection { user: "ann".into(), groups, ..Connection::default() }))
            .word("x11forwarding")
    };
    assert_eq!((of(&["staff"]), of(&["staff", "guests"]), of(&[])), ("yes".into(), "no".into(), "no".into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_file_is_too_broken(text in "((Match|Include|PermitRootLogin|AllowUsers)[ =][A-Za-z*,!./0-9\"'\\\\# ]{0,25}\n|\\PC{0,40}\n){0,8}") {
        let (config, _, _dir) = parse(&[("/etc/ssh/sshd_config", &text)]);
        let _ = config.conditional();
        let _ = config.effective(Some(&Connection { user: "ann".into(), ..Connection::default() }));
    }
}
