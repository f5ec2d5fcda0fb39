//! Facts about who asks, and on what device: the inputs of every decision.

use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

use crate::id::{DeviceId, SessionId, UserId};
use crate::name::{DeviceName, GroupName, Tag, UserName};

/// How well a device's key is kept (NIST SP 800-207 §3.3, asset state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grade {
    /// No device was proven.
    None,
    /// The key lies in a file.
    Software,
    /// The key lies in hardware, on the device's own word.
    Hardware,
    /// The key lies in hardware, and the hardware's maker vouches for it.
    HardwareAttested,
}

impl Grade {
    /// Every grade, weakest first.
    pub const ALL: [Grade; 4] = [Grade::None, Grade::Software, Grade::Hardware, Grade::HardwareAttested];

    /// The word that policies, records and people use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Grade::None => "none",
            Grade::Software => "software",
            Grade::Hardware => "hardware",
            Grade::HardwareAttested => "hardware-attested",
        }
    }

    /// The grade of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Grade::ALL.into_iter().find(|grade| grade.as_str() == word)
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a user proved who she is (RFC 8176 gives the words their meaning).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthMethod {
    /// A WebAuthn credential with user verification.
    Passkey,
}

impl AuthMethod {
    /// The word that policies and records use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthMethod::Passkey => "passkey",
        }
    }

    /// Whether a look-alike site can't relay it (WebAuthn binds the origin).
    #[must_use]
    pub const fn resists_phishing(self) -> bool {
        match self {
            AuthMethod::Passkey => true,
        }
    }

    /// The method of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        (word == "passkey").then_some(AuthMethod::Passkey)
    }
}

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFacts {
    /// Identity across renames of everything else.
    pub id: UserId,
    /// Name, which is also the Cedar id.
    pub name: UserName,
    /// Groups the user is in, directly or through other groups.
    pub groups: BTreeSet<GroupName>,
}

/// What is known of an enrolled device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Identity; it stands in the device certificate.
    pub id: DeviceId,
    /// Display name.
    pub name: DeviceName,
    /// How its key is kept.
    pub grade: Grade,
    /// The user it was enrolled for, when it is somebody's.
    pub owner: Option<UserName>,
    /// Free labels.
    pub tags: BTreeSet<Tag>,
}

/// How and when the session's user proved who she is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFacts {
    /// Methods used at sign-in.
    pub methods: BTreeSet<AuthMethod>,
    /// When the sign-in happened.
    pub at: SystemTime,
}

impl AuthFacts {
    /// Whether at least one method used resists phishing.
    #[must_use]
    pub fn resists_phishing(&self) -> bool {
        self.methods.iter().any(|method| method.resists_phishing())
    }
}

/// Version of the facts about one subject; any change bumps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

/// Everything known of one subject: a user, the session, and the device the session is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectFacts {
    /// The sign-in these facts belong to.
    pub session: SessionId,
    /// Who.
    pub user: UserFacts,
    /// On what device; `None` when the sign-in came from an unproven one.
    pub device: Option<DeviceFacts>,
    /// How and when the user proved it.
    pub auth: AuthFacts,
    /// When the session ends by itself.
    pub expires: SystemTime,
    /// Version of these facts.
    pub epoch: Epoch,
}

impl SubjectFacts {
    /// Grade of the device, [`Grade::None`] when there is none.
    #[must_use]
    pub fn grade(&self) -> Grade {
        self.device.as_ref().map_or(Grade::None, |device| device.grade)
    }
}
