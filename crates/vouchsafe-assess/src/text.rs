//! Lines, patterns, and what may be shown of them.

use std::borrow::Cow;

/// Most characters of a line that are shown.
const MAX_SHOWN: usize = 160;
/// What stands in the place of a secret.
const HIDDEN: &str = "[not shown]";

/// Lines with their numbers from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

/// Lines with their numbers, each joined with the next where it ends in a backslash.
pub(crate) fn continued(text: &str) -> impl Iterator<Item = (usize, Cow<'_, str>)> {
    let mut lines = numbered(text);
    std::iter::from_fn(move || {
        let (number, first) = lines.next()?;
        let mut line = Cow::Borrowed(first);
        while line.ends_with('\\') {
            let joined = line.to_mut();
            joined.pop();
            let Some((_, next)) = lines.next() else { break };
            joined.push_str(next);
        }
        Some((number, line))
    })
}

/// At most so many characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Whether a text is what `*` and `?` stand for. Takes at most as many steps as both are long, multiplied.
pub(crate) fn wild(pattern: &str, text: &str) -> bool {
    matches(pattern, text, false)
}

/// As [`wild`], with `[a-z]` for one of several characters, as in a shell.
pub(crate) fn wild_path(pattern: &str, text: &str) -> bool {
    matches(pattern, text, true)
}

fn matches(pattern: &str, text: &str, classes: bool) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), text.get(t)) {
            (Some('*'), _) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            (Some('?'), Some(_)) => Some(1),
            (Some('['), Some(letter)) if classes => class(pattern.get(p..).unwrap_or_default(), *letter),
            (Some(wanted), Some(letter)) if wanted == letter => Some(1),
            (None, None) => return true,
            _ => None,
        };
        match (step, retry) {
            (Some(width), _) => (p, t) = (p + width, t + 1),
            (None, Some((after_star, from))) if from < text.len() => {
                retry = Some((after_star, from + 1));
                (p, t) = (after_star, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// How long the class at the start of the pattern is, when it holds the letter.
fn class(pattern: &[char], letter: char) -> Option<usize> {
    let close = pattern.iter().skip(2).position(|end| *end == ']')? + 2;
    let inner = pattern.get(1..close)?;
    let (wanted, inner) = match inner {
        ['!' | '^', rest @ ..] => (false, rest),
        all => (true, all),
    };
    let mut rest = inner;
    let mut held = false;
    while let Some(first) = rest.first() {
        rest = match rest {
            [from, '-', to, behind @ ..] => {
                held |= (*from..=*to).contains(&letter);
                behind
            }
            _ => {
                held |= *first == letter;
                rest.get(1..).unwrap_or_default()
            }
        };
    }
    (held == wanted).then_some(close + 1)
}

/// Words whose line goes on with a secret.
const SECRET_WORDS: [&str; 16] = [
    "passwd",
    "password",
    "passphrase",
    "secret",
    "token",
    "api-key",
    "api_key",
    "apikey",
    "authorization",
    "credential",
    "bindpw",
    "cookie",
    "private-key",
    "stats auth",
    "basic_auth",
    "basicauth",
];

/// Words that hold one of those, and are only about secrets.
const HARMLESS_WORDS: [&str; 14] = [
    "nopasswd",
    "passwordauthentication",
    "permitemptypasswords",
    "password_encryption",
    "passwd_timeout",
    "passwd_tries",
    "htpasswd",
    "server_tokens",
    "servertokens",
    "targetpw",
    "passwd_file",
    "password_file",
    "/etc/passwd",
    "passwdtries",
];

/// A line as it may be shown: in one piece, not too long, and without what could be a secret.
pub(crate) fn shown(line: &str) -> String {
    let line = line.trim().replace('\t', " ");
    let without = hide_values(&hide_words(&line));
    short(&without, MAX_SHOWN)
}

/// Leaves out what follows a word that announces a secret.
fn hide_words(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let mut masked = lower.clone();
    for word in HARMLESS_WORDS {
        masked = masked.replace(word, &"#".repeat(word.len()));
    }
    let starts = SECRET_WORDS.iter().filter_map(|word| masked.find(word).map(|at| at + word.len()));
    let Some(cut) = starts.min() else { return line.to_owned() };
    let (kept, rest) = (line.get(..cut).unwrap_or_default(), line.get(cut..).unwrap_or_default());
    // The rest of the word itself stays: `ldapbindpasswd=`, `--password-file`.
    let name =
        rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '-').unwrap_or(rest.len());
    let (name, value) = rest.split_at_checked(name).unwrap_or((rest, ""));
    if value.trim_matches([' ', ';', '{', '}', '=', '"', '\'', ':']).is_empty() {
        return line.to_owned();
    }
    let sign = value.chars().next().filter(|sign| matches!(sign, '=' | ':')).map_or(" ".to_owned(), String::from);
    format!("{kept}{name}{sign}{HIDDEN}")
}

/// Leaves out words that are secrets by their form.
fn hide_values(line: &str) -> String {
    let words: Vec<Cow<'_, str>> = line
        .split(' ')
        .map(|word| {
            let bare = word.trim_matches(['"', '\'', ';', ',']);
            if is_hash(bare) {
                return Cow::Owned(word.replace(bare, HIDDEN));
            }
            // https://user:password@host
            if let Some((scheme, rest)) = word.split_once("://")
                && let Some((user, host)) = rest.split('/').next().and_then(|authority| authority.rsplit_once('@'))
                && user.contains(':')
            {
                let path = rest.split_once('/').map_or(String::new(), |(_, path)| format!("/{path}"));
                return Cow::Owned(format!("{scheme}://{HIDDEN}@{host}{path}"));
            }
            // Keys, public ones too, say nothing to a person; their ends suffice to tell them apart.
            let is_key = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '=' | '-' | '_');
            let mixed = bare.contains(|letter: char| letter.is_ascii_digit()) && !bare.contains("//");
            if bare.len() >= 40 && bare.chars().all(is_key) && mixed && bare.matches('/').count() < 6 {
                let (start, end) = (bare.get(..8).unwrap_or_default(), bare.get(bare.len() - 6..).unwrap_or_default());
                let public = bare.starts_with("AAAA");
                return Cow::Owned(if public { format!("{start}…{end}") } else { HIDDEN.to_owned() });
            }
            Cow::Borrowed(word)
        })
        .collect();
    words.join(" ")
}

/// A password's hash: crypt(3), PostgreSQL, LDAP.
fn is_hash(word: &str) -> bool {
    let md5 = word.strip_prefix("md5").is_some_and(|hex| hex.len() == 32 && hex.chars().all(|c| c.is_ascii_hexdigit()));
    let crypt = word.contains('$') && word.matches('$').count() >= 3 && word.len() >= 20 && !word.contains('{');
    md5 || crypt || word.starts_with("SCRAM-SHA-") || word.starts_with("{SSHA") || word.starts_with("{SHA")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*.conf", "x.conf", true),
            ("?", "", false),
            ("10.0.*", "10.0.3.4", true),
            ("a*b*c", "aXbYbZc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]", "[]", false),
            ("[", "[", false),
        ] {
            assert_eq!(wild_path(pattern, text), expected, "{pattern} {text}");
        }
        assert!(wild("[a]", "[a]"));
    }

    #[test]
    fn secrets_are_never_shown() {
        for (line, expected) in [
            (
                "host all all 0.0.0.0/0 ldap ldapbindpasswd=hunter2 x=1",
                "host all all 0.0.0.0/0 ldap ldapbindpasswd=[not shown]",
            ),
            ("host all all 0.0.0.0/0 password", "host all all 0.0.0.0/0 password"),
            ("PasswordAuthentication yes", "PasswordAuthentication yes"),
            ("password_encryption = md5", "password_encryption = md5"),
            ("ann ALL=(ALL) NOPASSWD: ALL", "ann ALL=(ALL) NOPASSWD: ALL"),
            ("stats auth admin:hunter2", "stats auth [not shown]"),
            ("user ann insecure-password hunter2", "user ann insecure-password [not shown]"),
            ("proxy_set_header Authorization \"Basic aHVudGVyMg==\";", "proxy_set_header Authorization [not shown]"),
            ("proxy_pass http://ann:hunter2@10.0.0.1/x;", "proxy_pass http://[not shown]@10.0.0.1/x;"),
            ("ALTER ROLE ann WITH LOGIN PASSWORD 'md5abc'", "ALTER ROLE ann WITH LOGIN PASSWORD [not shown]"),
            ("ann $2a$14$abcdefghijklmnopqrstuv", "ann [not shown]"),
            ("auth_basic_user_file /etc/nginx/.htpasswd;", "auth_basic_user_file /etc/nginx/.htpasswd;"),
        ] {
            assert_eq!(shown(line), expected);
        }
    }

    proptest! {
        #[test]
        fn any_line_can_be_shown(line in "\\PC{0,300}", word in prop::sample::select(SECRET_WORDS.to_vec()), lead in "[a-z ]{0,8}") {
            let _ = shown(&line);
            let canary = "hunter2CANARY";
            let text = shown(&format!("{lead} {word} {canary}{line}"));
            prop_assert!(!text.contains(canary), "{text}");
        }

        #[test]
        fn matching_ends(pattern in "[ab*?\\[\\]!-]{0,40}", text in "[ab\\[\\]-]{0,60}") {
            let _ = wild(&pattern, &text);
            let _ = wild_path(&pattern, &text);
            let _ = continued(&text).count();
        }

        #[test]
        fn a_pattern_of_letters_matches_itself_only(text in "[a-z]{1,9}", other in "[a-z]{1,9}") {
            prop_assert_eq!(wild(&text, &other), text == other);
        }
    }
}
