//! The demo's company: two departments with an app and a database each, and two people.

use std::path::Path;
use std::sync::Arc;

use tokio::try_join;
use url::Url;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::api::{
    DeviceInvited, Group, GroupDoc, Invited, Manifest, NewDevice, NewUser, PolicyFileDoc, PolicyVersion, ResourceDoc,
};

use super::{StoryError, World};
use crate::admin::Admin;
use crate::apps::assertion::Verifier;
use crate::apps::{App, Department};
use crate::authenticator::Authenticator;
use crate::browser::Browser;
use crate::browser::dial::Direct;
use crate::laptop::Laptop;
use crate::postgres::install::Installation;
use crate::postgres::{Cluster, Plan};

/// Port under which the databases are asked for, whatever port they really have.
pub(super) const DATABASE_PORT: u16 = 5432;
const POLICY_FILE: &str = "demo.cedar";
const POLICY: &str = include_str!("demo.cedar");
const MARKETING_TABLES: &str = "CREATE TABLE campaigns (name text PRIMARY KEY, euros integer NOT NULL);\n\
    INSERT INTO campaigns VALUES ('Spring campaign', 48200), ('Trade fair in Oslo', 21750), ('Newsletter', 3400);";
const FINANCE_TABLES: &str = "CREATE TABLE ledger (entry text PRIMARY KEY, euros integer NOT NULL);\n\
    INSERT INTO ledger VALUES ('Salaries, October', -412900), ('Invoice 2207', 96000), ('Tax', -58310);";

/// Whether the company has databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Databases {
    /// Where a PostgreSQL server is installed.
    WhereInstalled,
    /// Not even then.
    Without,
}

/// Both databases, each a server of its own.
pub struct BothDatabases {
    /// Marketing's.
    pub marketing: Cluster,
    /// Finance's.
    pub finance: Cluster,
}

/// A person with a passkey, an enrolled laptop, and a sign-in on it.
pub struct Person {
    /// User name.
    pub name: &'static str,
    /// Her passkeys.
    pub authenticator: Authenticator,
    /// Her laptop.
    pub laptop: Laptop,
}

/// Everything that runs.
pub struct Company {
    /// Marketing's app.
    pub marketing: App,
    /// Finance's app.
    pub finance: App,
    /// The databases, where PostgreSQL is installed.
    pub databases: Option<BothDatabases>,
    /// Of marketing.
    pub alice: Person,
    /// Of finance.
    pub bob: Person,
}

impl Company {
    pub(super) async fn found(
        world: &World,
        admin: &Admin,
        databases: Databases,
        tasks: &TaskGroup,
    ) -> Result<Self, StoryError> {
        let direct = Browser::new(Arc::new(Direct::loopback(world.port)), &world.root_pem, tasks.clone())?;
        let issuer = world.origin("auth")?;
        let app = async |department: Department| {
            let verifier = Verifier::new(issuer.clone(), department.name(), direct.clone());
            App::start(department, verifier, tasks).await.map_err(StoryError::App)
        };
        let (marketing, finance, databases) =
            try_join!(app(Department::Marketing), app(Department::Finance), start_databases(databases))?;
        let manifest = manifest(admin, [&marketing, &finance], databases.as_ref()).await?;
        admin.apply(manifest).await?;
        let (alice, bob) = try_join!(
            hire(world, admin, "alice", Department::Marketing, tasks),
            hire(world, admin, "bob", Department::Finance, tasks)
        )?;
        Ok(Self { marketing, finance, databases, alice, bob })
    }
}

async fn start_databases(wanted: Databases) -> Result<Option<BothDatabases>, StoryError> {
    if wanted == Databases::Without {
        return Ok(None);
    }
    let Some(installation) = Installation::find()? else { return Ok(None) };
    let (marketing, finance) = try_join!(
        Cluster::start(&installation, Plan { database: "marketing", tables: MARKETING_TABLES, tls: None }),
        Cluster::start(&installation, Plan { database: "finance", tables: FINANCE_TABLES, tls: None })
    )?;
    Ok(Some(BothDatabases { marketing, finance }))
}

/// The wanted state: what exists already stays, since a list in a manifest is complete.
async fn manifest(admin: &Admin, apps: [&App; 2], databases: Option<&BothDatabases>) -> Result<Manifest, StoryError> {
    let groups: Vec<Group> = admin.get("/v1/groups").await?;
    let mut resources: Vec<ResourceDoc> = admin.get("/v1/resources").await?;
    let current: PolicyVersion = admin.get("/v1/policy").await?;
    let mut names: Vec<String> = groups.into_iter().map(|group| group.name).collect();
    for name in [Department::Marketing.name(), Department::Finance.name()] {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    let mut ours: Vec<ResourceDoc> = apps.into_iter().map(app_resource).collect();
    if let Some(databases) = databases {
        ours.push(database_resource(Department::Marketing, &databases.marketing));
        ours.push(database_resource(Department::Finance, &databases.finance));
    }
    resources.retain(|known| ours.iter().all(|resource| resource.name != known.name));
    resources.append(&mut ours);
    let mut policy = current.files;
    policy.retain(|file| file.name != POLICY_FILE);
    // A policy that names a resource which does not exist would be a mistake, so there is one text
    // for both cases: the strict check only asks for known types and words.
    policy.push(PolicyFileDoc { name: POLICY_FILE.to_owned(), text: POLICY.to_owned() });
    let groups = names.into_iter().map(|name| GroupDoc { name, members: None }).collect();
    Ok(Manifest { groups: Some(groups), resources: Some(resources), policy: Some(policy), ..Manifest::default() })
}

fn app_resource(app: &App) -> ResourceDoc {
    let department = app.department();
    let mut doc = resource(department, department.name().to_owned(), "http", format!("http://{}", app.address()));
    doc.description = match department {
        Department::Marketing => "Campaign figures",
        Department::Finance => "The ledger",
    }
    .to_owned();
    doc
}

fn database_resource(department: Department, cluster: &Cluster) -> ResourceDoc {
    let name = database_name(department).to_owned();
    let mut doc = resource(department, name, "tcp", cluster.address().to_string());
    doc.port = Some(DATABASE_PORT);
    doc.description = format!("PostgreSQL database `{}`", cluster.database());
    doc
}

/// Name of a department's database as a resource.
pub(super) const fn database_name(department: Department) -> &'static str {
    match department {
        Department::Marketing => "marketing-db",
        Department::Finance => "finance-db",
    }
}

fn resource(department: Department, name: String, kind: &str, upstream: String) -> ResourceDoc {
    let (group, sensitivity) = match department {
        Department::Marketing => ("marketing-material", "internal"),
        Department::Finance => ("finance-records", "restricted"),
    };
    ResourceDoc {
        name,
        kind: kind.to_owned(),
        upstream,
        groups: vec![group.to_owned()],
        sensitivity: Some(sensitivity.to_owned()),
        ..ResourceDoc::default()
    }
}

/// Invites a person and her laptop, and does what she would: enrol, register a passkey, sign in.
async fn hire(
    world: &World,
    admin: &Admin,
    name: &'static str,
    department: Department,
    tasks: &TaskGroup,
) -> Result<Person, StoryError> {
    let user = NewUser { name: name.to_owned(), groups: vec![department.name().to_owned()] };
    let invited: Invited = admin.post("/v1/users", &user).await?;
    let device = NewDevice { owner: Some(name.to_owned()), tags: Vec::new() };
    let ticket: DeviceInvited = admin.post("/v1/devices/invites", &device).await?;
    let device_name = format!("{name}-laptop");
    let dir = device_dir(&world.dir, &device_name)?;
    let laptop = Laptop::enrol(&dir, &ticket.ticket, &device_name, &world.root_pem, tasks).await?;
    let mut authenticator = Authenticator::new();
    laptop.browser().accept_invite(&invited.link, &mut authenticator, &device_name).await?;
    laptop.log_in().await?;
    Ok(Person { name, authenticator, laptop })
}

fn device_dir(world: &Path, name: &str) -> Result<std::path::PathBuf, StoryError> {
    use std::os::unix::fs::DirBuilderExt;

    let dir = world.join("devices").join(name);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(StoryError::Files)?;
    Ok(dir)
}

/// `https://<host>/path` of the company.
pub(super) fn page(world: &World, label: &str, path: &str) -> Result<Url, StoryError> {
    world.origin(label)?.join(path).map_err(|_| StoryError::Domain { domain: world.domain.clone() })
}
