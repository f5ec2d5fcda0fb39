//! Who acts: the one whose name stands in the audit record of a change.

use std::net::IpAddr;
use std::time::SystemTime;

use vouchsafe_model::id::{DecisionId, DeviceId, SessionId};
use vouchsafe_model::name::UserName;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::Caller;
use vouchsafe_wire::audit::{Kind, Record};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Actor {
    /// The owner of the machine, over the admin socket.
    Local {
        /// User id of the operating system.
        uid: u32,
    },
    /// A user who signed in.
    User {
        /// Who.
        name: UserName,
        /// Under which session, where there is one already.
        session: Option<SessionId>,
        /// On which proven device.
        device: Option<DeviceId>,
        /// From where.
        ip: IpAddr,
        /// Whether the key of her connection was agreed on with a post-quantum group.
        post_quantum: bool,
        /// The decision that allowed it.
        decision: Option<DecisionId>,
    },
    /// A device with its certificate, without a user.
    Device {
        /// Which.
        id: DeviceId,
        /// From where.
        ip: IpAddr,
    },
    /// Somebody who has proven nothing yet.
    Anonymous {
        /// From where.
        ip: IpAddr,
    },
    /// The controller itself: expiry, first start.
    Controller,
}

impl Actor {
    /// The user that policy decided on; `None` when there is none.
    pub(crate) fn of_caller(caller: &Caller) -> Option<Self> {
        let subject = caller.subject.as_ref()?;
        Some(Actor::User {
            name: subject.user.name.clone(),
            session: Some(subject.session),
            device: subject.device.as_ref().map(|device| device.id),
            ip: caller.ip,
            post_quantum: caller.post_quantum,
            decision: caller.decision,
        })
    }

    /// Who it is in one word, such as `alice` or `local:0`.
    pub(crate) fn label(&self) -> String {
        match self {
            Actor::Local { uid } => format!("local:{uid}"),
            Actor::User { name, .. } => name.to_string(),
            Actor::Device { id, .. } => id.to_string(),
            Actor::Anonymous { .. } => "anonymous".to_owned(),
            Actor::Controller => "controller".to_owned(),
        }
    }

    /// A record in which who acts, and from where, is filled in.
    pub(crate) fn record(&self, kind: Kind, now: SystemTime) -> Record {
        let mut record = Record::new(kind, clock::unix_micros(now));
        match self {
            Actor::Local { .. } => {
                record.user = Some(self.label());
                record.protocol = Some("unix".to_owned());
            }
            Actor::User { name, session, device, ip, post_quantum: _, decision } => {
                record.user = Some(name.to_string());
                record.session = session.map(|session| session.to_string());
                record.device = device.map(|device| device.to_string());
                record.ip = Some(ip.to_string());
                record.id = decision.map(|decision| decision.to_string());
            }
            Actor::Device { id, ip } => {
                record.device = Some(id.to_string());
                record.ip = Some(ip.to_string());
            }
            Actor::Anonymous { ip } => record.ip = Some(ip.to_string()),
            Actor::Controller => record.user = Some(self.label()),
        }
        record
    }

    /// The record of an administrative change: `verb` such as `user.add`, `target` such as
    /// `user/alice`, `detail` for people, empty when there is nothing to say.
    pub(crate) fn changed(&self, verb: &str, target: String, detail: String) -> Record {
        let mut record = self.record(Kind::Admin, clock::now());
        record.action = Some(verb.to_owned());
        record.target = Some(target);
        record.outcome = Some("ok".to_owned());
        record.detail = (!detail.is_empty()).then_some(detail);
        record.protocol = record.protocol.or_else(|| Some("api".to_owned()));
        record
    }
}
