//! The walk through the demo's company: who reaches what, on what device, and why.
//!
//! - [`company`]: departments, apps, databases and people
//! - [`report`]: steps and how they are shown
//! - `walk`: the steps themselves
//! - `witness`: what the audit log says of each

pub mod company;
pub mod report;
mod step;
mod walk;
mod witness;

use std::io;
use std::path::PathBuf;

use url::Url;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::TlsError;

use crate::admin::{Admin, AdminError};
use crate::browser::BrowserError;
use crate::browser::journey::JourneyError;
use crate::laptop::LaptopError;
use crate::postgres::PostgresError;
use company::{Company, Databases};
use report::{Report, Step};

/// The running `vouchsafe up` that the story plays in, as an outsider knows it.
#[derive(Debug, Clone)]
pub struct World {
    /// Directory for the demo's own files, such as the laptops' keys.
    pub dir: PathBuf,
    /// Base domain.
    pub domain: String,
    /// Port of the gateway on the loopback address.
    pub port: u16,
    /// PEM of the root that vouches for the gateway's names.
    pub root_pem: String,
    /// The administrator's socket.
    pub admin_socket: PathBuf,
}

impl World {
    /// `https://<label>.<domain>[:port]/`.
    ///
    /// # Errors
    /// [`StoryError::Domain`] when the domain makes no address.
    pub fn origin(&self, label: &str) -> Result<Url, StoryError> {
        Url::parse(&format!("https://{label}.{}:{}/", self.domain, self.port))
            .map_err(|_| StoryError::Domain { domain: self.domain.clone() })
    }
}

/// Failure of the demo itself. A step that comes out wrong is none: it stands in the report.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// The domain makes no address.
    #[error("`{domain}` is not a domain that browsers can open")]
    Domain {
        /// The domain.
        domain: String,
    },
    /// The API refused or broke.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A browser could not go on.
    #[error(transparent)]
    Browser(#[from] BrowserError),
    /// A person could not do what the story needs.
    #[error(transparent)]
    Journey(#[from] JourneyError),
    /// A laptop could not do what the story needs.
    #[error(transparent)]
    Laptop(#[from] LaptopError),
    /// A private database could not be run.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An app could not be started.
    #[error("a demo app could not be started")]
    App(#[source] io::Error),
    /// A file of the demo could not be made.
    #[error("a file of the demo could not be made")]
    Files(#[source] io::Error),
}

/// A founded company, ready for the walk. Dropping it stops its databases and removes their files;
/// its apps and connections end with the task group.
pub struct Story {
    world: World,
    admin: Admin,
    company: Company,
    tasks: TaskGroup,
}

impl Story {
    /// Starts apps and databases, writes resources, groups and policy, and lets two people enrol
    /// their laptops, register passkeys and sign in.
    ///
    /// # Errors
    /// [`StoryError`].
    pub async fn begin(world: World, databases: Databases, tasks: TaskGroup) -> Result<Self, StoryError> {
        let admin = Admin::new(world.admin_socket.clone(), tasks.clone());
        let company = Company::found(&world, &admin, databases, &tasks).await?;
        Ok(Self { world, admin, company, tasks })
    }

    /// Takes the walk. `on_step` hears of each step as soon as it is done.
    ///
    /// # Errors
    /// [`StoryError`] when the demo can't go on.
    pub async fn walk(&self, on_step: impl FnMut(&Step)) -> Result<Report, StoryError> {
        walk::take(self, on_step).await
    }

    /// What runs, for looking around afterwards.
    #[must_use]
    pub fn company(&self) -> &Company {
        &self.company
    }
}

/// Begins the story, takes the walk, and gives the report. Everything it started ends with it.
///
/// # Errors
/// [`StoryError`].
pub async fn run(world: World, databases: Databases, tasks: TaskGroup) -> Result<Report, StoryError> {
    Story::begin(world, databases, tasks).await?.walk(|_| {}).await
}
