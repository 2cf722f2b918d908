//! The command's end of the API.

use super::route::{escape, route};
use crate::failure::{Code, Failure};
use crate::handler::Watcher;
use crate::wire::{Answer, Ask, JobState, JobView};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// How often it is looked whether the operator interrupts.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Client {
    runtime: Runtime,
    socket: PathBuf,
    /// Name or identifier.
    pool: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client")
            .field("socket", &self.socket)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// `None` when no daemon answers there.
    pub(crate) fn connect(socket: &Path, pool: &str) -> Result<Option<Self>, Failure> {
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(_) => {}
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(unreachable(&format!("{}: {error}", socket.display()))),
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unreachable(&error.to_string()))?;
        Ok(Some(Self { runtime, socket: socket.to_owned(), pool: pool.to_owned() }))
    }

    pub(crate) fn ask(&self, ask: &Ask, watcher: &mut dyn Watcher) -> Result<Answer, Failure> {
        self.send(ask, "", watcher)
    }

    /// What the change would do.
    pub(crate) fn plan(&self, ask: &Ask) -> Result<Answer, Failure> {
        self.send(ask, "?dry_run=true", &mut crate::handler::Unwatched)
    }

    /// A look at what is no pool's.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(&Method::GET, path, None)
    }

    /// How the job stood that is to end.
    pub(crate) fn cancel(&self, id: &str) -> Result<JobView, Failure> {
        self.call(&Method::DELETE, &format!("/v1/jobs/{}", escape(id)), None)
    }

    /// Hears of a job until it ends, or until nobody wants to hear of it any more; it goes on then.
    pub(crate) fn follow(&self, id: &str, watcher: &mut dyn Watcher) -> Result<JobView, Failure> {
        self.runtime.block_on(follow(&self.socket, id, watcher, Interrupted::Leaves))
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let (_, body) = exchange(&self.socket, method, path, body).await?;
            parse(&body)
        })
    }

    fn send(&self, ask: &Ask, query: &str, watcher: &mut dyn Watcher) -> Result<Answer, Failure> {
        let (method, below, body) = route(ask)?;
        let path = format!("/v1/pools/{}{below}{query}", escape(&self.pool));
        self.runtime.block_on(async {
            let (status, body) = exchange(&self.socket, &method, &path, body).await?;
            if status != StatusCode::ACCEPTED {
                return parse(&body);
            }
            let job: JobView = parse(&body)?;
            let ended = follow(&self.socket, &job.id, watcher, Interrupted::Cancels).await?;
            match (ended.answer, ended.failure) {
                (Some(answer), _) => Ok(answer),
                (None, Some(failure)) => Err(failure),
                (None, None) => Err(unreachable("the job ended without a word")),
            }
        })
    }
}

/// What comes of a job that nobody wants to hear of any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    /// It is cancelled, and heard of until it has ended.
    Cancels,
    /// It goes on alone.
    Leaves,
}

async fn follow(
    socket: &Path,
    id: &str,
    watcher: &mut dyn Watcher,
    interrupted: Interrupted,
) -> Result<JobView, Failure> {
    let path = format!("/v1/jobs/{}", escape(id));
    let mut response = open(socket, &Method::GET, &format!("{path}/events"), None).await?;
    if !response.status().is_success() {
        let body = whole(response).await?;
        return Err(failure(&body));
    }
    let mut lines = Lines::default();
    let (mut done, mut total, mut cancelled) = (0, 0, false);
    loop {
        match tokio::time::timeout(LOOK, response.body_mut().frame()).await {
            Ok(None) => return Err(unreachable("it ended before the job did")),
            Ok(Some(Err(error))) => return Err(unreachable(&error.to_string())),
            Ok(Some(Ok(frame))) => {
                for line in frame.data_ref().map(|data| lines.take(data)).unwrap_or_default() {
                    let Some(data) = line.strip_prefix("data:") else { continue };
                    let view: JobView = parse(data.trim_start().as_bytes())?;
                    if view.state != JobState::Running {
                        return Ok(view);
                    }
                    (done, total) = (view.done, view.total);
                }
            }
            Err(_nothing_new) => {}
        }
        if !watcher.progress(done, total) && !cancelled {
            if interrupted == Interrupted::Leaves {
                let why = "it was interrupted, and the job goes on";
                let next = format!("offshoot job follow {id}, or offshoot job cancel {id}");
                return Err(Failure::new(Code::Failed, format!("{id} is not followed any more"), why, next));
            }
            cancelled = true;
            exchange(socket, &Method::DELETE, &path, None).await?;
        }
    }
}

/// Whole lines of what comes in pieces.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn take(&mut self, data: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in data {
            if byte == b'\n' {
                lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned());
            } else {
                self.rest.push(byte);
            }
        }
        lines
    }
}

async fn exchange(
    socket: &Path,
    method: &Method,
    path: &str,
    body: Option<Value>,
) -> Result<(StatusCode, Vec<u8>), Failure> {
    let response = open(socket, method, path, body).await?;
    let status = response.status();
    let body = whole(response).await?;
    if status.is_success() { Ok((status, body)) } else { Err(failure(&body)) }
}

async fn open(
    socket: &Path,
    method: &Method,
    path: &str,
    body: Option<Value>,
) -> Result<Response<Incoming>, Failure> {
    let lost = |error: &dyn std::error::Error| unreachable(&crate::failure::sentence(error));
    let stream = UnixStream::connect(socket).await.map_err(|error| lost(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
    // It ends with the exchange, whose own error says all there is to say.
    tokio::spawn(async move { drop(connection.await) });
    let text = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "offshoot")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(text)))
        .map_err(|error| lost(&error))?;
    sender.send_request(request).await.map_err(|error| lost(&error))
}

async fn whole(response: Response<Incoming>) -> Result<Vec<u8>, Failure> {
    let body = response.into_body().collect().await;
    body.map(|body| body.to_bytes().to_vec()).map_err(|error| unreachable(&error.to_string()))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| unreachable(&format!("its answer makes no sense to this version: {error}")))
}

fn failure(body: &[u8]) -> Failure {
    parse(body).unwrap_or_else(|failure| failure)
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn unreachable(why: &str) -> Failure {
    let what = "the daemon that serves the pool did not answer";
    Failure::new(Code::Unreachable, what, why, "offshoot pool status, or look at the log of offshoot serve")
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text = b"event: end\ndata: {}\n\nda";
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            let mut all = lines.take(&text[..cut]);
            all.extend(lines.take(&text[cut..]));
            assert_eq!(all, ["event: end", "data: {}", ""], "{cut}");
        }
    }
}
