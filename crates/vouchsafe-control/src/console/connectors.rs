//! Gateways and connectors: where they are attached, and until when their certificates are good.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AttachedTo, Connector, Gateway};

use super::parts::{cards, chip, count, empty};
use super::{Admin, ConsoleError, frame};
use crate::context::Context;
use crate::directory::{connectors, gateways};
use crate::pages::layout::{ago, at};

/// `GET /connectors`.
pub(super) async fn list(State(context): State<Context>, Admin(actor): Admin) -> Result<Response, ConsoleError> {
    let (connectors, gateways) = (connectors::list(&context).await?, gateways::list(&context).await?);
    let now = clock::unix_seconds(clock::now());
    let body = html! {
        section aria-label="Connectors" {
            @if connectors.is_empty() {
                (empty("No connector has joined.", html! {
                    "A connector dials out of a network that has no way in. Make its code with " code { "vouchsafe connector invite SITE" } ", and start it there."
                }))
            } @else { (table(&connectors)) }
        }
        h2 #gateways { "Gateways that are processes of their own" }
        section aria-labelledby="gateways" {
            @if gateways.is_empty() {
                (empty("None has joined", html! { "Where controller and gateway are one process (" code { "vouchsafe up" } "), there is nothing to join." }))
            } @else { (gateway_table(&gateways, now)) }
        }
    };
    Ok(frame::page("Connectors", &actor.label(), body))
}

fn table(connectors: &[Connector]) -> Markup {
    cards(
        &["Name", "Site", "Attached to", "Certificate until", "Joined"],
        connectors.iter().map(|connector| {
            vec![
                html! { span .name { bdi { (connector.name) } } p .faint { code { (connector.id) } } },
                html! { bdi { (connector.site) } },
                html! {
                    @for AttachedTo { gateway, since, connections, streams } in &connector.attached {
                        div {
                            (chip("good", gateway))
                            p .faint { (count((*connections).into(), "connection")) " since " (at(*since)) ", " (count((*streams).into(), "stream")) }
                        }
                    }
                    @if connector.attached.is_empty() { (chip("deny", "nowhere")) }
                },
                at(connector.certificate_expires),
                at(connector.created),
            ]
        }),
    )
}

fn gateway_table(gateways: &[Gateway], now: u64) -> Markup {
    cards(
        &["Name", "State", "Heard", "Certificate until", "Joined"],
        gateways.iter().map(|gateway| {
            vec![
                html! { span .name { bdi { (gateway.name) } } p .faint { code { (gateway.id) } } },
                html! {
                    @match &gateway.attached {
                        Some(attached) if attached.behind > 0 => { (chip("weak", "behind")) p .faint { (count(attached.behind, "change")) } },
                        Some(attached) => { (chip("good", "attached")) p .faint { "from " (attached.ip) " since " (at(attached.since)) } },
                        None => (chip("deny", "not attached")),
                    }
                },
                html! { @match gateway.attached.as_ref().map(|attached| attached.heard).or(gateway.last_seen) { Some(heard) => (ago(heard, now)), None => span .faint { "never" } } },
                at(gateway.certificate_expires),
                at(gateway.created),
            ]
        }),
    )
}
