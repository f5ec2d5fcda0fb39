//! The protocol between controller and gateway (`docs/spec/control-channel.md`) as a small model, of which every
//! state that can be reached is looked at: one subject, one policy, one flow, a feed of a few rows, a clock of a few
//! ticks; messages that take any time, channels that break at any moment, both ends that crash, a feed that forgets
//! its oldest rows, and somebody who plays back an old snapshot.
//!
//! What must hold in each state:
//!
//! - *No flow outlives its right by more than the promise*: lease, and the patience for facts that changed.
//! - *No revocation is lost*: where everything sent has come and nothing is left to do, an open flow has its right.
//!
//! What the gateway does by itself takes no time here, but it is a step of its own, so that requests come in between.
//! A controller's crash is a channel that breaks: nothing but its store outlives either.
//!
//! Each rule of the protocol is then taken away in turn, and the checker must find what goes wrong without it: a
//! model that can't fail proves nothing.

mod world;

use stateright::{Checker, HasDiscoveries, Model, Path};

use self::world::{Bounds, Rule, World};

#[test]
fn i6_no_flow_outlives_its_right_and_no_revocation_is_lost() {
    for (what, bounds) in Bounds::EACH {
        let seen = World { without: None, bounds }.checker().threads(2).spawn_bfs().join();
        println!("{what}: {} states, {} of them different", seen.state_count(), seen.unique_state_count());
        for promise in world::PROMISES {
            let broken = seen.discovery(promise).map(Path::into_actions);
            assert_eq!(broken, None, "with {what} it is not so that {promise}");
        }
        for needed in world::NEEDED {
            assert!(seen.discovery(needed).is_some(), "with {what} it never comes to it that {needed}");
        }
    }
}

#[test]
fn i6_without_any_of_its_rules_the_protocol_does_not_hold() {
    for (rule, promise, bounds) in Rule::ALL {
        let enough = HasDiscoveries::AnyOf([promise].into());
        let seen = World { without: Some(rule), bounds }.checker().finish_when(enough).threads(2).spawn_bfs().join();
        let broken = seen.discovery(promise).map(Path::into_actions);
        println!("without {rule:?}: {broken:?}");
        assert!(broken.is_some(), "without {rule:?} {promise} all the same: is it needed, or is the model blind?");
    }
}
