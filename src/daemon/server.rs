//! The daemon's end of the API: the socket, who calls, and what is carried out for them.

use super::BODY_BYTES_MAX;
use super::access::{Access, Peer, Role};
use super::jobs::{Job, Jobs};
use super::routes;
use super::seats::Seating;
use crate::failure::{Code, Failure};
use crate::handler::{Held, Unwatched, handle};
use crate::history::{Author, History, Record, failure_in};
use crate::output::say;
use crate::plan::plan;
use crate::wire::{Answer, Ask, JobView, StatusView};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::IntoFuture;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinError;
use unix_socket::SocketFile;

/// Commands carried out or waiting at one time.
const COMMANDS_MAX: usize = 32;
/// How long the end waits for callers who take no answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One pool of the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Hosted {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) held: Held,
}

/// What all requests are carried out with.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pools: Arc<Vec<Hosted>>,
    jobs: Arc<Jobs>,
    access: Arc<Access>,
    history: History,
    places: Arc<Semaphore>,
}

impl Api {
    pub(crate) fn new(pools: Vec<Hosted>, access: Access, history: History) -> Self {
        Self {
            pools: Arc::new(pools),
            jobs: Arc::default(),
            access: Arc::new(access),
            history,
            places: Arc::new(Semaphore::new(COMMANDS_MAX)),
        }
    }

    fn pool(&self, name: &str) -> Result<&Hosted, Failure> {
        // A name is chosen by whoever made the pool: it never stands for another pool's identifier.
        let by_id = self.pools.iter().find(|pool| pool.id == name);
        by_id.or_else(|| self.pools.iter().find(|pool| pool.name == name)).ok_or_else(|| {
            let shown: String = name.chars().take(60).collect();
            let why = format!("this daemon holds no pool {shown:?}");
            Failure::new(Code::NotFound, "the request was refused", why, "GET /v1/pools")
        })
    }

    pub(super) fn statuses(&self) -> Vec<StatusView> {
        self.pools.iter().map(|pool| pool.held.status()).collect()
    }

    pub(super) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    pub(super) fn job(&self, id: &str) -> Result<Arc<Job>, Failure> {
        self.jobs.find(id).ok_or_else(|| {
            let shown: String = id.chars().take(40).collect();
            let why = format!("there is no job {shown:?}, or it ended long ago");
            Failure::new(Code::NotFound, "the request was refused", why, "offshoot job ls")
        })
    }

    pub(super) async fn history(&self, pool: Option<String>, limit: usize) -> Result<Vec<Record>, Refusal> {
        let history = self.history.clone();
        self.in_place(move || Ok(history.newest(pool.as_deref(), limit))).await
    }

    /// Long work becomes a job; the rest is answered when it is done.
    pub(super) async fn carry_out(
        &self,
        caller: Caller,
        pool: String,
        ask: Ask,
        dry_run: bool,
    ) -> Result<Reply, Refusal> {
        caller.may(&ask)?;
        let hosted = self.pool(&pool)?.clone();
        if dry_run {
            let planned = self.in_place(move || plan(&hosted.held, &ask)).await?;
            return Ok(Reply::answer(Answer::Planned(planned)));
        }
        if ask.is_long() {
            let (name, held) = (&hosted.name, hosted.held.clone());
            let job = self.jobs.start(name, held, self.history.clone(), caller.author(), ask)?;
            return Ok(Reply::job(&job.view()));
        }
        let (history, author) = (self.history.clone(), caller.author());
        let answer = self.in_place(move || {
            let run = || handle(&hosted.held, ask.clone(), &mut Unwatched);
            history.of(&hosted.name, &author, &ask, run, failure_in)
        });
        answer.await.map(Reply::answer)
    }

    /// In one of the places that there are for commands, and off the threads that talk.
    async fn in_place<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Refusal> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let why = format!("{COMMANDS_MAX} commands are under way");
            Failure::new(Code::Conflict, "the command was refused", why, "the same command again")
        })?;
        let run = move || {
            let result = run();
            drop(place);
            result
        };
        tokio::task::spawn_blocking(run)
            .await
            .unwrap_or_else(|died| Err(unfinished(&died)))
            .map_err(Refusal::from)
    }

    fn router(self) -> Router {
        let (router, document) = routes::routes().split_for_parts();
        router
            .route("/v1/openapi.json", get(move || async move { Json(document) }))
            .fallback(routes::nowhere)
            .method_not_allowed_fallback(routes::nowhere)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }
}

/// Answers until it is stopped.
#[derive(Debug)]
pub(crate) struct ControlServer {
    socket: SocketFile,
    links: Vec<PathBuf>,
    api: Api,
    ending: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ControlServer {
    /// Answers on a socket that listens; each of the links leads to it. Only for the holder of the pools: a link that is there
    /// already is a dead daemon's, and is replaced.
    pub(crate) fn start(socket: SocketFile, links: Vec<PathBuf>, api: Api) -> Result<Self, Failure> {
        let refused = |error: io::Error| {
            let why = format!("{}: {error}", socket.path().display());
            Failure::new(Code::Failed, "the pools are not served", why, "ls -l on that directory")
        };
        let listener = UnixListener::from(socket.as_fd().try_clone_to_owned().map_err(refused)?);
        for link in &links {
            put_link(socket.path(), link).map_err(refused)?;
        }
        let (ending, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let router = api.clone().router();
        let run = move || runtime.block_on(serve(listener, router, ended));
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(run).map_err(refused)?;
        Ok(Self { socket, links, api, ending, thread })
    }

    /// Cancels jobs, waits for what is being carried out, and removes the socket.
    pub(crate) fn stop(self) {
        self.api.jobs.stop();
        drop(self.ending);
        let _its_panic_was_printed = self.thread.join();
        for link in self.links {
            if std::fs::read_link(&link).is_ok_and(|target| target == self.socket.path()) {
                let _gone_is_fine = std::fs::remove_file(link);
            }
        }
    }
}

fn put_link(to: &Path, link: &Path) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(to, link)
}

async fn serve(listener: UnixListener, router: Router, ended: oneshot::Receiver<()>) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return say(&format!("note: nobody is answered on the control socket: {error}")),
    };
    let (told, tell) = oneshot::channel::<()>();
    let ending = async move {
        let _ended_is_all = ended.await;
        drop(told);
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let serving = axum::serve(Seating::new(listener), service).with_graceful_shutdown(ending).into_future();
    let late = async {
        let _ended_is_all = tell.await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        _ = serving => {}
        () = late => {}
    }
}

fn unfinished(died: &JoinError) -> Failure {
    Failure::new(Code::Failed, "the command was not finished", died.to_string(), "the log of offshoot serve")
}

/// Who calls, with a role.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    peer: Peer,
    pub(super) role: Role,
}

impl Caller {
    fn may(&self, ask: &Ask) -> Result<(), Refusal> {
        self.require(Role::required(ask), &format!("'{}'", ask.word()))
    }

    pub(super) fn may_cancel(&self, job: &JobView) -> Result<(), Refusal> {
        let role = if job.user == self.peer.user { Role::Operator } else { Role::Admin };
        self.require(role, "cancelling this job")
    }

    fn require(&self, role: Role, what: &str) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        let why = format!(
            "{what} takes the role {}, and user {} has {}",
            role.word(),
            self.peer.user,
            self.role.word()
        );
        Err(Refusal::forbidden(why))
    }

    fn author(&self) -> Author {
        Author { user: self.peer.user, pid: self.peer.pid, job: None }
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<Peer>>() else {
            return Err(Refusal::forbidden("the kernel does not say who calls".to_owned()));
        };
        match api.access.role(peer) {
            Some(role) => Ok(Self { peer: *peer, role }),
            None => {
                let why = format!(
                    "user {} has no role; the daemon answers its own user, root and whom its configuration names",
                    peer.user
                );
                Err(Refusal::forbidden(why))
            }
        }
    }
}

/// Who is at the other end.
impl Connected<IncomingStream<'_, Seating>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Seating>) -> Self {
        stream.io().peer()
    }
}

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, api).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(mistaken(&rejection)),
        }
    }
}

/// The words behind a path's '?': one that is not known is refused, since it was meant to change what is done.
pub(super) struct Words<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Words<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, Refusal> {
        Query::try_from_uri(&parts.uri).map(|Query(words)| Self(words)).map_err(|rejection| {
            let next = "GET /v1/openapi.json";
            Refusal::from(Failure::new(Code::Usage, "the request was refused", rejection.body_text(), next))
        })
    }
}

fn mistaken(rejection: &JsonRejection) -> Refusal {
    let next = "GET /v1/openapi.json";
    let failure = Failure::new(Code::Usage, "the request was refused", rejection.body_text(), next);
    Refusal { status: rejection.status(), failure }
}

/// What worked.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    location: Option<String>,
    body: serde_json::Value,
    partly: Option<Failure>,
}

impl Reply {
    fn answer(answer: Answer) -> Self {
        let partly = failure_in(&answer);
        let body = serde_json::to_value(answer).unwrap_or_default();
        Self { status: StatusCode::OK, location: None, body, partly }
    }

    pub(super) fn job(view: &JobView) -> Self {
        let body = serde_json::to_value(view).unwrap_or_default();
        let location = Some(format!("/v1/jobs/{}", view.id));
        Self { status: StatusCode::ACCEPTED, location, body, partly: None }
    }

    /// Where there was one thing to do, its failure is the whole answer.
    pub(super) fn or_first_failure(self) -> Result<Self, Refusal> {
        match self.partly {
            Some(failure) => Err(Refusal::from(failure)),
            None => Ok(self),
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(location) = self.location.and_then(|location| location.parse().ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// What did not work.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    failure: Failure,
}

impl Refusal {
    fn forbidden(why: String) -> Self {
        let failure = Failure::new(Code::Failed, "the command was refused", why, "sudo");
        Self { status: StatusCode::FORBIDDEN, failure }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            Code::Usage => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict => StatusCode::CONFLICT,
            Code::Capacity => StatusCode::INSUFFICIENT_STORAGE,
            Code::NeedsConfirmation => StatusCode::PRECONDITION_REQUIRED,
            Code::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Failed | Code::Partly => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, failure }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Document {
            kind: &'static str,
            #[serde(flatten)]
            failure: Failure,
        }
        (self.status, Json(Document { kind: "Failure", failure: self.failure })).into_response()
    }
}
