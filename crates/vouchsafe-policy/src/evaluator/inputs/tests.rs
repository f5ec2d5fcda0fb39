use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::request::KeyAgreement;

fn of(condition: &str) -> Inputs {
    let text = format!("permit(principal, action, resource) when {{ {condition} }};");
    let policy = cedar_policy::Policy::parse(None, text).expect(condition);
    super::super::Condition::new(super::super::Expression::of(&policy).expect("a condition")).inputs
}

#[test]
fn what_a_condition_reads_is_found() {
    let all = Inputs::everything().read;
    for (condition, read) in [
        ("true", 0),
        ("principal in Group::\"a\" && resource.sensitivity > 1 && action in Action::\"access\"", 0),
        ("context.device.grade == \"none\" || context.auth.methods.contains(\"passkey\")", 0),
        ("context.auth.phishing_resistant && context.device has owner && context.device.owner == principal", 0),
        ("context.request.path like \"/a*\"", PATH),
        ("context[\"request\"][\"path\"] == context.request.host", PATH | HOST),
        ("if context.request.method == \"GET\" then true else context.request.operation == \"o\"", METHOD | OPERATION),
        ("[1, context.request.port].contains(3)", PORT),
        ("{a: {b: context.request.path}}.a.b == \"/\"", PATH),
        ("context.request has path", REQUEST),
        ("context.request == {\"port\": 1}", REQUEST),
        ("context has request", all),
        ("context has request.path", all),
        ("context == context", all),
        ("(if true then context else context).request.path == \"/\"", all),
        ("context.auth == context.auth", AGE | AGE_ITSELF),
        ("context.auth has age", AGE | AGE_ITSELF),
        ("context.auth.age + 1 > 2", AGE | AGE_ITSELF),
        ("context.auth.age < context.auth.age", AGE | AGE_ITSELF),
        ("context.auth.age == -(5)", AGE | AGE_ITSELF),
        ("[context.auth.age].contains(5)", AGE | AGE_ITSELF),
        ("context.network.ip.isInRange(ip(\"10.0.0.0/8\"))", IP),
        ("context.network == context.network", IP),
        ("context.tls.post_quantum", AGREEMENT),
        ("!context.tls.post_quantum || context[\"tls\"] == {post_quantum: true}", AGREEMENT),
        ("context.tls has post_quantum", AGREEMENT),
        ("context.time.toTime() < duration(\"8h\")", TIME | TIME_ITSELF),
        ("context.time < context.time.offset(duration(\"1s\"))", TIME | TIME_ITSELF),
        ("context.auth.unheard_of == 1", all),
        ("context.request.unheard_of == 1", all),
        ("context.unheard_of == 1", all),
    ] {
        let found = of(condition);
        assert_eq!(found.read, read, "{condition}");
        assert!(found.ages.is_empty() && found.times.is_empty(), "{condition}");
    }
}

#[test]
fn a_number_that_is_only_compared_is_read_by_its_rank() {
    let found =
        of("context.auth.age < 60 && !(context.auth.age >= 30) && 5 <= context.auth.age && context.auth.age != 60");
    assert_eq!((found.read, found.ages, found.times), (AGE, vec![5, 30, 60], vec![]));
    let found = of("context.time >= datetime(\"1970-01-02\") && context.time < datetime(\"1970-01-01T00:00:01.500Z\")");
    assert_eq!((found.read, found.ages, found.times), (TIME, vec![], vec![1_500, 86_400_000]));
    let found = of("context.auth.age < 60 && context.auth.age * 2 < 7");
    assert_eq!((found.read, found.ages), (AGE | AGE_ITSELF, vec![60]));
    let found = of("context.time < datetime(\"no instant\")");
    assert_eq!((found.read, found.times), (TIME | TIME_ITSELF, vec![]), "it fails in any case");
    let mut both = of("context.auth.age < 60");
    both.add(&of("context.auth.age <= 5 || context.time == datetime(\"1970-01-01\")"));
    both.add(&of("context.auth.age < 60"));
    assert_eq!((both.read, both.ages, both.times), (AGE | TIME, vec![5, 60], vec![0]));
}

fn at<'r>(age: i64, second: u64, ip: &str, detail: Detail<'r>) -> Circumstances<'r> {
    Circumstances { age, second, ip: ip.parse().expect("an address"), agreement: KeyAgreement::Other, detail }
}

fn http<'r>(method: &'r str, host: &'r str, path: &'r str) -> Detail<'r> {
    Detail::Http { method, host, path }
}

fn bytes(inputs: &Inputs, circumstances: &Circumstances<'_>) -> Vec<u8> {
    inputs.key(7, circumstances).expect("short").as_bytes().to_vec()
}

#[test]
fn the_key_holds_what_is_read_and_nothing_else() {
    let inputs = of("context.request.path == \"/\" && context.auth.age < 60");
    let key = |detail, age| bytes(&inputs, &at(age, 1, "10.0.0.1", detail));
    assert_eq!(key(http("GET", "h", "/"), 0), key(http("PUT", "other", "/"), 59));
    assert_ne!(key(http("GET", "h", "/"), 0), key(http("GET", "h", "/a"), 0));
    for (one, two) in [(59, 60), (60, 61), (59, 61)] {
        assert_ne!(key(http("GET", "h", "/"), one), key(http("GET", "h", "/"), two));
    }
    assert_ne!(
        inputs.key(1, &at(0, 0, "::1", http("", "", ""))).map(|key| key.as_bytes().to_vec()),
        inputs.key(2, &at(0, 0, "::1", http("", "", ""))).map(|key| key.as_bytes().to_vec())
    );
}

#[test]
fn the_key_tells_how_the_key_was_agreed_on_where_that_is_read() {
    let of_agreement = |agreement| Circumstances { agreement, ..at(0, 0, "::1", http("GET", "h", "/")) };
    let (one, other) = (of_agreement(KeyAgreement::PostQuantum), of_agreement(KeyAgreement::Other));
    for reads in [of("context.tls.post_quantum"), of("context == context")] {
        assert_ne!(bytes(&reads, &one), bytes(&reads, &other));
    }
    let reads = of("context.network.ip.isLoopback()");
    assert_eq!(bytes(&reads, &one), bytes(&reads, &other));
}

#[test]
fn texts_can_not_run_into_each_other() {
    let inputs = Inputs::everything();
    let texts = ["", "a", "aa", "\u{0}", "\u{1}\u{0}", "a\u{0}"];
    let mut seen = std::collections::HashSet::new();
    let mut count = 0;
    for method in texts {
        for host in texts {
            for path in texts {
                for (age, second, ip) in
                    [(0, 0, "0.0.0.1"), (1, 0, "0.0.0.1"), (0, 1, "0.0.0.1"), (0, 0, "::1"), (-1, 0, "::1")]
                {
                    count += 1;
                    seen.insert(bytes(&inputs, &at(age, second, ip, http(method, host, path))));
                }
            }
        }
    }
    assert_eq!(seen.len(), count);
    let ports: std::collections::HashSet<_> =
        [0, 1, 256, 65_535].map(|port| bytes(&inputs, &at(0, 0, "::1", Detail::Net { port }))).into();
    assert_eq!(ports.len(), 4);
}

#[test]
fn what_is_too_long_has_no_key_and_is_not_cut() {
    let inputs = of("context.request.path == \"/\"");
    // Eight bytes say whose it is, two how long the path is.
    let (fits, long) = ("a".repeat(MAX_KEY - 10), "a".repeat(MAX_KEY - 9));
    assert!(inputs.key(1, &at(0, 0, "::1", http("", "", &fits))).is_some());
    assert!(inputs.key(1, &at(0, 0, "::1", http("", "", &long))).is_none());
}

#[test]
fn an_instant_is_ranked_as_cedar_compares_it() {
    let millis = |text: &str| {
        let since = crate::moment::parse_rfc3339(text).expect("an instant").duration_since(UNIX_EPOCH).expect("after");
        i64::try_from(since.as_millis()).expect("fits")
    };
    for text in ["2026-11-21T00:00:30Z", "2026-11-21T05:30:00.250+0530", "1970-01-01T00:00:00Z"] {
        let rfc = text.replace("+0530", "+05:30");
        assert_eq!(of(&format!("context.time < datetime(\"{text}\")")).times, [millis(&rfc)]);
    }
    let second = UNIX_EPOCH + Duration::from_secs(30);
    assert_eq!(crate::moment::to_text(second).as_deref(), Some("1970-01-01T00:00:30.000Z"));
}
