//! `device`: enrolled devices.

use clap::Subcommand;
use http::Method;
use vouchsafe_model::name::{DeviceName, Tag, UserName};
use vouchsafe_wire::api::{Device, DeviceInvited, NewDevice};

use super::{ago, agreed, done, list, now, show};
use crate::admin::{AdminClient, path};
use crate::call::Call;
use crate::error::VerbError;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, clean};
use crate::text;

const DEVICES: &str = "/v1/devices/";

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes a one-time ticket that lets a device enrol.
    #[command(after_help = "Example:\n  vouchsafe device invite --owner alice > ticket.txt")]
    Invite {
        /// User it will belong to.
        #[arg(long)]
        owner: Option<UserName>,
        /// Label it will carry; may be given several times.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<Tag>,
    },
    /// Lists devices.
    #[command(after_help = "Example:\n  vouchsafe device list")]
    List,
    /// Shows one device.
    #[command(after_help = "Example:\n  vouchsafe device show alice-laptop")]
    Show {
        /// Name or id.
        device: DeviceName,
    },
    /// Removes a device, such as a lost one: what it has open is cut within the second.
    #[command(after_help = "Example:\n  vouchsafe device remove alice-laptop --yes")]
    Remove {
        /// Name or id.
        device: DeviceName,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(verb: Verb, call: &Call) -> Result<Exit, VerbError> {
    let client = AdminClient::open(call).await?;
    match verb {
        Verb::Invite { owner, tags } => {
            let new = NewDevice {
                owner: owner.map(|owner| owner.to_string()),
                tags: tags.iter().map(ToString::to_string).collect(),
            };
            let invited: DeviceInvited = client.send(Method::POST, "/v1/devices/invites", &new).await?;
            show(call, &invited, |DeviceInvited { ticket, expires }| {
                let out = &call.out;
                // The ticket stands alone on standard output, so that `> ticket.txt` makes a good file.
                out.line(&clean(ticket))?;
                let ends = text::relative(*expires, now());
                out.note(&out.paint_error(Style::Dim, &format!("good once, ends {ends}; on the device:")));
                out.note(&format!("  {}", out.paint_error(Style::Accent, "vouchsafe enroll")));
                Ok(())
            })
        }
        Verb::List => {
            let devices: Vec<Device> = client.get_all("/v1/devices").await?;
            show(call, &devices, |devices| call.out.table(&table(devices)))
        }
        Verb::Show { device } => {
            let device: Device = client.get(&path(DEVICES, device.as_str(), "")).await?;
            show(call, &device, |device| facts(call, device))
        }
        Verb::Remove { device, yes } => {
            agreed(call, yes, &format!("Remove device `{device}`? It has to be enrolled anew to come back."))?;
            client.delete(&path(DEVICES, device.as_str(), "")).await?;
            done(call, &format!("removed device {device}"))
        }
    }
}

fn certificate(device: &Device) -> Cell {
    let ends = text::relative(device.certificate_expires, now());
    if device.certificate_expires <= now() {
        Cell::new(Style::Bad, format!("ended {ends}"))
    } else {
        Cell::new(Style::Plain, format!("ends {ends}"))
    }
}

fn table(devices: &[Device]) -> Table {
    let mut table = Table::new(&["name", "owner", "grade", "certificate", "last seen", "tags…", "id"]);
    for device in devices {
        table.row([
            Cell::new(Style::Bold, &device.name),
            device.owner.as_deref().unwrap_or("–").into(),
            (&device.grade).into(),
            certificate(device),
            ago(device.last_seen).into(),
            list(&device.tags).into(),
            Cell::new(Style::Dim, &device.id),
        ]);
    }
    table
}

fn facts(call: &Call, device: &Device) -> std::io::Result<()> {
    call.out.line(&call.out.paint(Style::Bold, &clean(&device.name)))?;
    let ends = text::relative(device.certificate_expires, now());
    call.out.facts(&[
        ("id", clean(&device.id).into_owned()),
        ("owner", clean(device.owner.as_deref().unwrap_or("–")).into_owned()),
        ("grade", clean(&device.grade).into_owned()),
        ("tags", clean(&list(&device.tags)).into_owned()),
        ("enrolled", text::moment(device.created)),
        ("certificate", format!("until {} ({ends})", text::moment(device.certificate_expires))),
        ("last seen", ago(device.last_seen)),
    ])
}
