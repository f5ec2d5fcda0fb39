//! Work whose instructions `bench/run instructions` counts with callgrind: a request's target brought
//! into its canonical form, and the record of a decision written and framed.

use std::error::Error;
use std::hint::black_box;

use vouchsafe_model::resource::PathRules;
use vouchsafe_wire::audit::{Draft, Kind, Member, Members, Ready};
use vouchsafe_wire::canonical::CanonicalTarget;

/// What the instruction counts are of.
const COUNTED: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench" && argument != "--test");
    let what = arguments.nth(1).unwrap_or_default();
    match what.as_str() {
        "canonical" => {
            CanonicalTarget::parse("GET", TARGET, PathRules::STRICT).map_err(|_| "the target has no canonical form")?;
            times(|| drop(black_box(CanonicalTarget::parse(black_box("GET"), black_box(TARGET), PathRules::STRICT))));
        }
        "record" => {
            let who = Who::new();
            let mut out = Vec::with_capacity(64 << 10);
            draft(&who)?;
            times(|| {
                if let Ok(draft) = draft(black_box(&who)) {
                    out.clear();
                    draft.push_frame(black_box(4_711), &mut out);
                }
                black_box(&mut out);
            });
        }
        _ => return Err("count what? canonical or record".into()),
    }
    Ok(())
}

const TARGET: &str = "/api/v1/figures/%e2%82%ac/17?year=2026&page=2";

/// What a gateway makes ready once for each subject.
struct Who {
    authentication: Ready,
    described: Ready,
    groups: Ready,
}

impl Who {
    fn new() -> Self {
        Self {
            authentication: Ready::new(|m| {
                m.list(Member::AuthMethods, ["passkey"]);
                m.number(Member::AuthTimeUs, 1_795_219_200_000_000);
            }),
            described: Ready::new(|m| {
                m.text(Member::DeviceName, "alice-laptop");
                m.text(Member::DeviceOwner, "alice");
                m.list(Member::DeviceTags, ["managed"]);
            }),
            groups: Ready::new(|m| m.list(Member::Groups, ["engineering", "everybody", "finance"])),
        }
    }
}

/// The record of a permitted web request, with the members that a gateway writes.
fn draft(who: &Who) -> Result<Draft, vouchsafe_wire::audit::RecordError> {
    let before = |m: &mut Members<'_>| {
        m.text(Member::Action, "http:read");
        m.ready(&who.authentication, Member::AuthTimeUs);
        m.text(Member::Device, "dev_0303030303030303030303030303030303");
        m.ready(&who.described, Member::DeviceTags);
        m.number(Member::Epoch, 3);
        m.text(Member::Flow, "flw_0404040404040404040404040404040404");
        m.text(Member::Grade, "software");
        m.ready(&who.groups, Member::Groups);
        m.text(Member::Host, "app.corp.example");
        m.text(Member::Id, "dec_0505050505050505050505050505050505");
        m.text(Member::Ip, "10.0.2.7");
        m.kind(Kind::Decision);
        m.text(Member::Method, "GET");
        m.text(Member::Outcome, "allow");
        m.text(Member::Path, "/api/v1/figures/17");
        m.list(Member::Policies, ["finance-figures"]);
        m.number(Member::PolicyVersion, 12);
        m.text(Member::Protocol, "h2");
        m.text(Member::Reason, "permitted");
        m.text(Member::Resource, "app");
    };
    let after = |m: &mut Members<'_>| {
        m.number(Member::TimeUs, 1_795_219_800_000_000);
        m.text(Member::Tls, "X25519MLKEM768");
        m.text(Member::User, "alice");
        m.format();
        m.text(Member::Words, "Finance may read the figures.");
    };
    Draft::write("gw-1", before, Some("ses_0101010101010101010101010101010101"), after)
}

fn times(mut work: impl FnMut()) {
    (0..COUNTED).for_each(|_| counted(&mut work));
}

#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // Keeps the call above from becoming a jump, so that its instructions are found in here.
    black_box(());
}
