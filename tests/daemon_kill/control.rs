//! The API of the daemon, as this test needs it.

use crate::api_client::{Answer, call, socket_in};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct Control {
    socket: PathBuf,
}

impl Control {
    /// The one daemon that has its things in this directory, with one pool.
    pub(crate) fn connect(run_directory: &Path) -> Self {
        Self { socket: socket_in(run_directory) }
    }

    /// The answer, or `None` when the daemon was killed before it gave one.
    pub(crate) fn post(&self, what: &str, order: &Value) -> Option<Value> {
        let Answer { status, body } = call(&self.socket, "POST", &format!("/v1/pools/p/{what}"), order)?;
        assert!(status < 300, "{what} {order}: {status} {body}");
        if status == 202 { self.follow(&body) } else { Some(body) }
    }

    /// What came of a job.
    fn follow(&self, job: &Value) -> Option<Value> {
        let path = format!("/v1/jobs/{}", job["id"].as_str().expect("an identifier"));
        // The stream of events ends with the job.
        call(&self.socket, "GET", &format!("{path}/events"), &Value::Null)?;
        let Answer { body, .. } = call(&self.socket, "GET", &path, &Value::Null)?;
        assert_eq!(body["state"], "done", "{body}");
        Some(body["answer"].clone())
    }

    /// Every name of the pool.
    pub(crate) fn names(&self) -> Vec<String> {
        let answer = call(&self.socket, "GET", "/v1/pools/p/entries", &Value::Null).expect("the daemon runs");
        let items = answer.body["items"].as_array().expect("a list").iter();
        items.map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// All metadata agree with each other.
    pub(crate) fn check(&self) {
        let answer = self.post("check", &json!({})).expect("the daemon runs");
        assert_eq!((&answer["errors"], &answer["leaked_blocks"]), (&json!([]), &json!(0)));
    }
}
