//! Resources: put and removed.

use std::net::IpAddr;

use sqlx::SqliteConnection;
use vouchsafe_model::name::ResourceName;
use vouchsafe_model::resource::{Resource, ResourceSpec, UpstreamHost, embedded_v4};
use vouchsafe_runtime::clock;
use vouchsafe_wire::resource::ResourceDoc;

use super::{AdministratorError, modes};
use crate::context::{Context, Settings};
use crate::directory::Actor;
use crate::precondition::Precondition;
use crate::store::{Write, grants, resources};

/// One resource.
pub(crate) async fn show(connection: &mut SqliteConnection, name: &str) -> Result<ResourceDoc, AdministratorError> {
    let name = ResourceName::parse(name)?;
    find(connection, &name).await
}

/// One resource.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    name: &ResourceName,
) -> Result<ResourceDoc, AdministratorError> {
    resources::show(connection, name)
        .await?
        .ok_or_else(|| AdministratorError::Missing { what: "resource", name: name.to_string() })
}

/// Checks a resource and gives its one text form, with defaults left out and lists sorted.
pub(crate) fn checked(settings: &Settings, doc: &ResourceDoc) -> Result<ResourceDoc, AdministratorError> {
    let resource = doc.to_resource()?;
    modes::within_bounds(&resource, clock::now())?;
    if let ResourceSpec::Tcp(tcp) = &resource.spec
        && tcp.port == settings.port
    {
        // A tunnel to that port leads to our own names.
        return Err(AdministratorError::Value {
            member: "port",
            given: tcp.port.to_string(),
            expected: "another than vouchsafe's own; give the resource a `port` of its own",
        });
    }
    if is_own_port(settings, &resource) {
        return Err(AdministratorError::OwnPort { resource: doc.name.clone(), upstream: doc.upstream.clone() });
    }
    ResourceDoc::from_resource(&resource)
        .ok_or_else(|| AdministratorError::Missing { what: "resource", name: doc.name.clone() })
}

/// Whether the upstream leads back into this gateway: requests would go round in circles, and our
/// own names would see them come from a trusted place.
fn is_own_port(settings: &Settings, resource: &Resource) -> bool {
    let upstream = match &resource.spec {
        ResourceSpec::Http(http) => &http.upstream,
        ResourceSpec::Tcp(tcp) => &tcp.upstream,
        ResourceSpec::Udp(udp) => &udp.upstream,
        ResourceSpec::Console => return false,
    };
    let here = match &upstream.host {
        // Of a connector's own machine, which is another.
        UpstreamHost::Ip(address) => resource.via.is_none() && is_loopback(*address),
        UpstreamHost::Name(name) => {
            resource.via.is_none() && (name == "localhost" || name.ends_with(".localhost"))
                || name == settings.domain.as_str()
                || settings.domain.label_of(name).is_some()
        }
    };
    here && upstream.port == settings.port
}

fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback() || embedded_v4(address).is_loopback()
}

/// Writes a resource; nothing happens when it is so already.
pub(crate) async fn put(
    context: &Context,
    name: &str,
    doc: &ResourceDoc,
    expected: &Precondition,
    by: &Actor,
) -> Result<ResourceDoc, AdministratorError> {
    if doc.name != name {
        return Err(AdministratorError::NameMismatch {
            address: super::shortened(name),
            body: super::shortened(&doc.name),
        });
    }
    let doc = checked(&context.settings, doc)?;
    let mut write = context.store.write().await?;
    let before = resources::show(write.connection(), &ResourceName::parse(name)?).await?;
    expected.check(before.as_ref())?;
    put_in(&mut write, &doc, by).await?;
    write.commit().await?;
    Ok(doc)
}

/// The same within a change, for a resource that was [`checked`].
pub(crate) async fn put_in(write: &mut Write, doc: &ResourceDoc, by: &Actor) -> Result<(), AdministratorError> {
    let name = ResourceName::parse(&doc.name)?;
    let before = resources::show(write.connection(), &name).await?;
    if before.as_ref() == Some(doc) {
        return Ok(());
    }
    modes::owner_exists(write.connection(), before.as_ref(), doc).await?;
    resources::put(write.connection(), doc).await?;
    write.snapshot_changed();
    let detail = differences(before.as_ref(), doc).join("; ");
    write.audit(by.changed("resource.put", format!("resource/{name}"), detail));
    Ok(())
}

/// What is different, a line for each member.
pub(crate) fn differences(before: Option<&ResourceDoc>, after: &ResourceDoc) -> Vec<String> {
    let members = |doc: &ResourceDoc| match serde_json::to_value(doc) {
        Ok(serde_json::Value::Object(members)) => members,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (old, new) = (before.map(members).unwrap_or_default(), members(after));
    let shown = |member: &str, value: Option<&serde_json::Value>| match (member, value) {
        (_, None) => "unset".to_owned(),
        ("upstream_ca", Some(_)) => "a certificate".to_owned(),
        (_, Some(serde_json::Value::String(text))) => text.clone(),
        (_, Some(value)) => value.to_string(),
    };
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let mut lines = Vec::new();
    for name in names.into_iter().filter(|name| *name != "name") {
        let (was, is) = (old.get(name), new.get(name));
        if was == is {
            continue;
        }
        lines.push(match before {
            None => format!("{name}: {}", shown(name, is)),
            Some(_) => format!("{name}: {} → {}", shown(name, was), shown(name, is)),
        });
    }
    lines
}

/// Removes a resource with the grants to it.
pub(crate) async fn remove(
    context: &Context,
    name: &str,
    expected: &Precondition,
    by: &Actor,
) -> Result<(), AdministratorError> {
    let name = ResourceName::parse(name)?;
    let mut write = context.store.write().await?;
    expected.check(Some(&find(write.connection(), &name).await?))?;
    remove_in(&mut write, &name, by).await?;
    Ok(write.commit().await?)
}

/// The same within a change.
pub(crate) async fn remove_in(write: &mut Write, name: &ResourceName, by: &Actor) -> Result<(), AdministratorError> {
    find(write.connection(), name).await?;
    let granted = grants::of_resource(write.connection(), name).await?;
    for grant in &granted {
        grants::remove(write.connection(), &grant.id).await?;
    }
    resources::remove(write.connection(), name).await?;
    write.snapshot_changed();
    let detail = if granted.is_empty() {
        String::new()
    } else {
        let list: Vec<_> = granted.iter().map(|grant| format!("{} of {}", grant.id, grant.user)).collect();
        format!("grants removed: {}", list.join(", "))
    };
    write.audit(by.changed("resource.remove", format!("resource/{name}"), detail));
    Ok(())
}
