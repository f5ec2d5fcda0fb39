//! A permitted tunnel: bytes of a CONNECT to a `tcp` resource, both ways.

use std::sync::Arc;

use vouchsafe_runtime::relay::relay;

use crate::forward::reach::Reached;
use crate::gateway::Shared;
use crate::listen::Place;
use crate::take_up::TakeUp;
use crate::watch::Flow;

/// Joins the client's tunnel with the upstream until both have ended or access does.
pub(crate) fn join(shared: &Arc<Shared>, flow: Arc<Flow>, client: TakeUp, mut upstream: Reached, place: Arc<Place>) {
    shared.tasks.spawn("tunnel", async move {
        let passing = async {
            let client = client.taken().await?;
            relay(client.stream, &mut upstream, flow.traffic()).await
        };
        let whole = tokio::select! {
            result = passing => {
                flow.set_detail(match &result {
                    Ok(()) => "closed".to_owned(),
                    Err(error) => format!("broke off: {error}"),
                });
                result.is_ok()
            }
            _ = flow.cut().cancelled() => false,
        };
        if !whole {
            upstream.break_off();
        }
        drop(place);
    });
}
