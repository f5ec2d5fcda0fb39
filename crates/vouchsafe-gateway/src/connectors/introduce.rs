//! What a gateway hands a connector: the controller's signed list of gateways, before the first stream and
//! whenever there is a new one. A connector takes streams only from a gateway that its newest list has.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode, Uri};
use tokio::sync::watch;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_wire::connector::ROSTER;

/// How long a connector may take with one list.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists of gateways, and how far a connector has come with them.
pub(super) struct Introduction {
    connector: ConnectorId,
    sender: SendRequest<Bytes>,
    lists: watch::Receiver<Option<Bytes>>,
}

impl Introduction {
    pub(super) fn new(
        connector: ConnectorId,
        sender: SendRequest<Bytes>,
        mut lists: watch::Receiver<Option<Bytes>>,
    ) -> Self {
        lists.mark_changed();
        Self { connector, sender, lists }
    }

    /// Resolves when the connector takes streams of this gateway: one that has just joined may have to wait for the
    /// first list that has it.
    pub(super) async fn accepted(&mut self) -> Result<(), h2::Error> {
        while self.next().await? != StatusCode::NO_CONTENT {}
        Ok(())
    }

    /// Hands over each new list for as long as the connection lives.
    pub(super) async fn go_on(&mut self) -> h2::Error {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }

    async fn next(&mut self) -> Result<StatusCode, h2::Error> {
        loop {
            if self.lists.changed().await.is_err() {
                return std::future::pending().await;
            }
            let Some(list) = self.lists.borrow_and_update().clone() else { continue };
            let status = tokio::time::timeout(PATIENCE, self.hand_over(list)).await;
            let status = status.unwrap_or_else(|_| Err(h2::Reason::CANCEL.into()))?;
            if status != StatusCode::NO_CONTENT {
                tracing::warn!(connector = %self.connector, %status, "a connector does not take the list of gateways");
            }
            return Ok(status);
        }
    }

    async fn hand_over(&self, mut list: Bytes) -> Result<StatusCode, h2::Error> {
        let mut request = Request::new(());
        *request.method_mut() = Method::PUT;
        // HTTP/2 wants all three; only the path says anything.
        let uri = Uri::builder().scheme("https").authority("connector").path_and_query(ROSTER).build();
        *request.uri_mut() = uri.unwrap_or_default();
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut body) = sender.send_request(request, false)?;
        while !list.is_empty() {
            body.reserve_capacity(list.len());
            let room = match poll_fn(|cx| body.poll_capacity(cx)).await {
                Some(room) => room?,
                // It has answered already, or is gone: the answer says.
                None => break,
            };
            let piece = list.split_to(room.min(list.len()));
            body.send_data(piece, list.is_empty())?;
        }
        Ok(response.await?.status())
    }
}
