//! A controller on a directory of its own, for tests at its edges.

use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;
use vouchsafe_model::name::BaseDomain;
use vouchsafe_runtime::task::TaskGroup;

use crate::api::{self, LocalOwner};
use crate::checkpoints::Witnesses;
use crate::context::Context;
use crate::controller::{Controller, OpenError, OpenOptions};

pub(crate) struct Bench {
    pub(crate) controller: Controller,
    pub(crate) tasks: TaskGroup,
    pub(crate) dir: TempDir,
}

pub(crate) async fn open(dir: &TempDir, domain: &str) -> Result<(Controller, TaskGroup), OpenError> {
    let tasks = TaskGroup::new();
    let domain = BaseDomain::parse(domain).unwrap();
    let options = OpenOptions {
        dir: dir.path().join("state"),
        domain,
        port: 8443,
        acme: None,
        checkpoint_copy: None,
        keep_days: None,
        witnesses: Witnesses::default(),
    };
    Ok((Controller::open(options, tasks.clone()).await?, tasks))
}

impl Bench {
    pub(crate) async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (controller, tasks) = open(&dir, "vouchsafe.localhost").await.unwrap();
        Self { controller, tasks, dir }
    }

    pub(crate) fn context(&self) -> &Context {
        self.controller.context()
    }

    /// Asks the API as the owner of the machine; gives status and JSON body (null when empty).
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        };
        let request = request.extension(LocalOwner { uid: 0 }).body(body).unwrap();
        let response = api::routes(self.context().clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    /// The same where success is expected.
    pub(crate) async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// The same where a problem is expected: its status and type.
    pub(crate) async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.ask(method, path, body).await;
        assert!(!status.is_success(), "{method} {path}: {status} {answer}");
        assert_eq!(answer["status"], status.as_u16());
        assert!(!answer["title"].as_str().unwrap().is_empty());
        (status.as_u16(), answer["type"].as_str().unwrap().to_owned())
    }

    /// The administrative changes on record, oldest first: action and target.
    pub(crate) async fn changes(&self) -> Vec<String> {
        let page = self.done("GET", "/v1/audit?kind=admin&limit=1000", Value::Null).await;
        let records = page["records"].as_array().unwrap().iter().rev();
        records.map(|one| format!("{} {}", one["action"].as_str().unwrap(), one["target"].as_str().unwrap())).collect()
    }
}
