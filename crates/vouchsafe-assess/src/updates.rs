//! How old the kernel and the packages are, and whether updates come by themselves. Debian's files, and where
//! possible those of others.

use std::cmp::Ordering;

use crate::finding::{Area, Evidence};
use crate::kinds;
use crate::notes::Notes;
use crate::source::{MAX_LIST, ReadError, Source};
use crate::text::numbered;

/// Days after which lists of packages are old.
const OLD_DAYS: u64 = 14;

/// Releases, and the day after which their distributor makes no more public security updates.
const ENDS: [(&str, &str, &str); 9] = [
    ("debian", "9", "2022-07-01"),
    ("debian", "10", "2024-06-30"),
    ("debian", "11", "2026-08-31"),
    ("debian", "12", "2028-06-30"),
    ("debian", "13", "2030-06-30"),
    ("ubuntu", "16.04", "2021-04-30"),
    ("ubuntu", "18.04", "2023-05-31"),
    ("ubuntu", "20.04", "2025-05-31"),
    ("ubuntu", "22.04", "2027-04-30"),
];

/// What is known about updates.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    /// `None`: not known.
    pub automatic: Option<bool>,
    /// `None`: not known.
    pub fresh: Option<bool>,
    /// As in `PRETTY_NAME`.
    pub system: Option<String>,
    pub host: Option<String>,
}

/// Looks at kernel and packages.
pub(crate) fn look(source: &Source, now: u64, notes: &mut Notes) -> Updates {
    let mut updates = Updates::default();
    let release = notes
        .text(Area::Updates, source, "/etc/os-release")
        .or_else(|| notes.text(Area::Updates, source, "/usr/lib/os-release"));
    if let Some(release) = &release {
        updates.system = value(release, "PRETTY_NAME");
        judge_release(release, now, notes);
    }
    updates.host = source.bytes("/etc/hostname", 256).ok().map(|name| String::from_utf8_lossy(&name).trim().to_owned());
    if source.is_there("/var/lib/dpkg/status") {
        updates.automatic = Some(unattended(source, notes));
        updates.fresh = fresh(source, now, notes);
        kernel(source, notes);
    } else if let Some(text) = notes.text(Area::Updates, source, "/etc/dnf/automatic.conf") {
        updates.automatic =
            Some(text.lines().any(|line| line.replace(' ', "").eq_ignore_ascii_case("apply_updates=yes")));
    } else {
        let how = "collect /var/lib/dpkg/status, /etc/apt and /var/lib/apt/periodic";
        notes.gap(Area::Updates, "", None, "there are no lists of packages of a kind that is read here", how);
    }
    updates
}

/// The value of a name in `os-release`.
fn value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(crate::text::short(line.trim_matches(['"', '\'']), 80))
}

fn judge_release(text: &str, now: u64, notes: &mut Notes) {
    let (Some(id), Some(version)) = (value(text, "ID"), value(text, "VERSION_ID")) else { return };
    let Some((_, _, end)) = ENDS.iter().find(|(known, release, _)| *known == id && *release == version) else { return };
    if crate::report::day(now).as_str() > *end {
        let line = numbered(text).find(|(_, line)| line.starts_with("VERSION_ID")).unwrap_or((1, ""));
        let what = format!("{id} {version} gets no public security updates since {end}.");
        notes.find(&kinds::SYSTEM_END_OF_LIFE, "system", what, vec![Evidence::line("/etc/os-release", line.0, line.1)]);
    }
}

/// Whether `APT::Periodic::Unattended-Upgrade` is on, of the files' text in order.
fn periodic(text: &str) -> Option<bool> {
    let mut found = None;
    let mut path: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '#' => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '/' if letters.peek() == Some(&'/') => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '/' if letters.peek() == Some(&'*') => {
                let mut before = ' ';
                for letter in letters.by_ref() {
                    if before == '*' && letter == '/' {
                        break;
                    }
                    before = letter;
                }
            }
            '{' => path.push(std::mem::take(&mut words).concat()),
            '}' => {
                path.pop();
                words.clear();
            }
            ';' => {
                let mut parts = std::mem::take(&mut words).into_iter();
                let name = path
                    .iter()
                    .cloned()
                    .chain(parts.next())
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join("::");
                if name.eq_ignore_ascii_case("APT::Periodic::Unattended-Upgrade") {
                    found = parts.next().map(|value| !matches!(value.as_str(), "0" | "" | "false" | "no" | "off"));
                }
            }
            '"' => {
                let mut word = String::new();
                for letter in letters.by_ref().take_while(|letter| *letter != '"') {
                    word.push(letter);
                }
                words.push(word);
            }
            space if space.is_whitespace() => {}
            _ => {
                let mut word = String::from(letter);
                while let Some(next) =
                    letters.next_if(|next| !next.is_whitespace() && !matches!(next, '{' | '}' | ';' | '"'))
                {
                    word.push(next);
                }
                words.push(word);
            }
        }
    }
    found
}

fn unattended(source: &Source, notes: &mut Notes) -> bool {
    let mut files = notes.glob(Area::Updates, source, "/etc/apt/apt.conf.d/*");
    files.push("/etc/apt/apt.conf".to_owned());
    let mut last = None;
    for file in files {
        // apt passes over these as well.
        let name = file.rsplit('/').next().unwrap_or_default();
        if name.contains('.') && !name.ends_with(".conf") {
            continue;
        }
        if let Some(text) = notes.text(Area::Updates, source, &file)
            && let Some(on) = periodic(&text)
        {
            last = Some((on, file));
        }
    }
    let on = last.as_ref().is_some_and(|(on, _)| *on);
    if !on {
        let file = last.map_or_else(|| "/etc/apt/apt.conf.d".to_owned(), |(_, file)| file);
        let seen = Evidence::file(&file, "APT::Periodic::Unattended-Upgrade is not on");
        notes.find(
            &kinds::UPDATES_NOT_AUTOMATIC,
            "apt",
            "Security updates wait until somebody installs them.",
            vec![seen],
        );
    }
    on
}

fn fresh(source: &Source, now: u64, notes: &mut Notes) -> Option<bool> {
    let places = ["/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/lists/partial", "/var/lib/apt/lists"];
    let times = places.iter().filter_map(|place| source.stat(place).ok().map(|stat| (stat.modified, *place)));
    let Some((at, place)) = times.max() else {
        notes.gap(
            Area::Updates,
            "/var/lib/apt",
            None,
            "when lists of packages were last fetched is not known",
            "collect /var/lib/apt with its times",
        );
        return None;
    };
    let days = now.saturating_sub(at) / 86_400;
    if days > OLD_DAYS {
        let what = format!("Lists of packages are {days} days old, so nobody knows what is missing.");
        notes.find(
            &kinds::UPDATES_OLD,
            "apt",
            what,
            vec![Evidence::file(place, format!("changed {}", crate::report::day(at)))],
        );
    }
    Some(days <= OLD_DAYS)
}

/// Versions of kernels whose packages are installed.
fn kernels(status: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut package: Option<&str> = None;
    let mut installed = false;
    for line in status.lines().chain([""]) {
        if line.is_empty() {
            if let Some(version) =
                package.take().filter(|_| installed).and_then(|name| name.strip_prefix("linux-image-"))
                && version.starts_with(|first: char| first.is_ascii_digit())
                && !version.ends_with("-dbg")
                && found.len() < 1_000
            {
                found.push(version.trim_end_matches("-unsigned").to_owned());
            }
            installed = false;
        } else if let Some(name) = line.strip_prefix("Package: ") {
            package = Some(name.trim());
        } else if let Some(state) = line.strip_prefix("Status: ") {
            installed = state.trim().ends_with(" installed");
        }
    }
    found
}

/// Compares runs of digits as numbers and everything else as text.
fn compare(one: &str, two: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(String, u64)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let word = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
            let (before, behind) = rest.split_at_checked(word).unwrap_or((rest, ""));
            let digits = behind.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(behind.len());
            let (number, after) = behind.split_at_checked(digits).unwrap_or((behind, ""));
            parts.push((before.to_owned(), number.parse().unwrap_or(u64::MAX * u64::from(!number.is_empty()))));
            rest = after;
        }
        parts
    };
    parts(one).cmp(&parts(two))
}

fn kernel(source: &Source, notes: &mut Notes) {
    if let Ok(stat) = source.stat("/run/reboot-required") {
        let seen = Evidence::file("/run/reboot-required", format!("there since {}", crate::report::day(stat.modified)));
        notes.find(&kinds::KERNEL_OLD_RUNNING, "kernel", "Updates wait for a restart of the machine.", vec![seen]);
    }
    let running = match source.bytes("/proc/sys/kernel/osrelease", 256) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(ReadError::Missing) => {
            notes.gap(
                Area::Updates,
                "/proc/sys/kernel/osrelease",
                None,
                "which kernel runs is not known",
                "save what `uname -r` prints there",
            );
            return;
        }
        Err(error) => {
            notes.unreadable(Area::Updates, "/proc/sys/kernel/osrelease", error);
            return;
        }
    };
    let Some(status) = notes.text_up_to(Area::Updates, source, "/var/lib/dpkg/status", MAX_LIST) else { return };
    let installed = kernels(&status);
    if !installed.contains(&running) {
        let why = format!(
            "the running kernel, {}, is from no installed package, so its age is not known",
            crate::text::short(&running, 60)
        );
        notes.remark(Area::Updates, "/proc/sys/kernel/osrelease", why, "ask whoever provides the kernel");
        return;
    }
    // Of the same flavour, such as `-amd64`.
    let flavour = |version: &str| version.rsplit('-').next().unwrap_or_default().to_owned();
    let newest =
        installed.iter().filter(|version| flavour(version) == flavour(&running)).max_by(|one, two| compare(one, two));
    if let Some(newest) = newest.filter(|newest| compare(newest, &running) == Ordering::Greater) {
        let seen = vec![
            Evidence::file("/proc/sys/kernel/osrelease", running.clone()),
            Evidence::file("/var/lib/dpkg/status", format!("linux-image-{newest} is installed")),
        ];
        notes.find(&kinds::KERNEL_OLD_RUNNING, "kernel", format!("{running} runs, and {newest} is installed."), seen);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn apts_settings_are_read_in_both_forms() {
        assert_eq!(periodic("APT::Periodic::Unattended-Upgrade \"1\"; // on\n"), Some(true));
        assert_eq!(periodic("# x\nAPT { Periodic { Unattended-Upgrade \"0\"; }; };"), Some(false));
        assert_eq!(periodic("/* APT::Periodic::Unattended-Upgrade \"1\"; */ APT::Periodic::Enable \"1\";"), None);
    }

    #[test]
    fn kernels_are_compared_by_their_numbers() {
        let status = "Package: linux-image-6.1.0-9-amd64\nStatus: install ok installed\n\nPackage: linux-image-6.1.0-10-amd64\n\
            Status: deinstall ok config-files\n\nPackage: linux-image-amd64\nStatus: install ok installed\n";
        assert_eq!(kernels(status), ["6.1.0-9-amd64"]);
        assert_eq!(compare("6.1.0-10-amd64", "6.1.0-9-amd64"), Ordering::Greater);
        assert_eq!(compare("6.1.0", "6.1.0"), Ordering::Equal);
        assert_eq!(value("ID=debian\nVERSION_ID=\"12\"\n", "VERSION_ID").as_deref(), Some("12"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_broken(text in "([A-Za-z:{};\"/*# 0-9]{0,60}|\\PC{0,60}\n)", other in "[a-z0-9.-]{0,30}") {
            let _ = (periodic(&text), kernels(&text), value(&text, "ID"), compare(&text, &other));
            prop_assert_eq!(compare(&text, &other), compare(&other, &text).reverse());
        }
    }
}
