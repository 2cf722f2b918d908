//! The paths of the API, each with its lines in the OpenAPI document. They turn what comes in into an [`Ask`] and what comes out
//! into a status and a body, and do nothing else.

use super::server::{Api, Body, Caller, Refusal, Reply, Words};
use crate::failure::{Code, Failure};
use crate::history::RecordList;
use crate::wire::{
    Ask, CheckView, CloneOrder, EntryList, ExportChange, ExportList, ExportOrder, ExportView, GrowOrder,
    ImageExportOrder, ImageExportView, ImportOrder, ImportView, JobList, JobState, JobView, LabelOrder,
    PlanView, PoolOrder, RemoveOrder, RemovedView, ResizeOrder, RollbackOrder, SnapshotOrder, StatusView,
    VolumeOrder,
};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use utoipa::{IntoParams, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The control interface of `offshoot serve`, over a Unix socket. Sizes are bytes, times RFC 3339 in UTC. Every request that changes
/// something takes `?dry_run=true`, and then answers with what it would do. A failure is a `Failure`, whatever the status.
#[derive(OpenApi)]
#[openapi(components(schemas(Failure, PlanView, CheckView, ImportView, ImageExportView)))]
struct Document;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(about))
        .routes(routes!(pools))
        .routes(routes!(status, set_pool))
        .routes(routes!(entries))
        .routes(routes!(remove_one))
        .routes(routes!(volumes))
        .routes(routes!(clones))
        .routes(routes!(snapshots))
        .routes(routes!(rollbacks))
        .routes(routes!(removals))
        .routes(routes!(resizes))
        .routes(routes!(labels))
        .routes(routes!(imports))
        .routes(routes!(image_exports))
        .routes(routes!(grow))
        .routes(routes!(settle))
        .routes(routes!(thin))
        .routes(routes!(check))
        .routes(routes!(exports, export))
        .routes(routes!(unexport, set_export))
        .routes(routes!(history))
        .routes(routes!(jobs))
        .routes(routes!(job, cancel))
        .routes(routes!(events))
}

/// Records of the history in one answer.
const RECORDS_MAX: usize = 10_000;

/// How a change is to be made.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Manner {
    /// Say what it would do, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Removal {
    #[serde(default)]
    dry_run: bool,
    /// A volume takes its snapshots with it.
    #[serde(default)]
    recursive: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Newest {
    /// Of this pool only.
    pool: Option<String>,
    /// So many at most; 100 where it is not given.
    limit: Option<usize>,
}

#[derive(Debug, Serialize, ToSchema)]
struct About {
    /// The version of the daemon.
    version: &'static str,
    /// The version of this interface.
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    /// What the caller may do: `admin`, `operator` or `read-only`.
    role: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct PoolList {
    items: Vec<StatusView>,
}

/// Who answers, and what the caller may do.
#[utoipa::path(get, path = "/v1", responses((status = OK, body = About)))]
async fn about(caller: Caller) -> Json<About> {
    let version = env!("CARGO_PKG_VERSION");
    Json(About { version, api_version: crate::output::API_VERSION, role: caller.role.word() })
}

/// All pools the daemon holds.
#[utoipa::path(get, path = "/v1/pools", responses((status = OK, body = PoolList)))]
async fn pools(State(api): State<Api>, _caller: Caller) -> Json<PoolList> {
    Json(PoolList { items: api.statuses() })
}

/// A pool's figures. A pool goes by its name or its identifier.
#[utoipa::path(get, path = "/v1/pools/{pool}", responses((status = OK, body = StatusView)))]
async fn status(State(api): State<Api>, caller: Caller, Path(pool): Path<String>) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::Status, false).await
}

/// Changes when alerts of a pool are raised; what is not given stays as it is.
#[utoipa::path(patch, path = "/v1/pools/{pool}", params(Manner), request_body = PoolOrder, responses((status = OK, body = StatusView)))]
async fn set_pool(
    State(api): State<Api>,
    caller: Caller,
    Path(pool): Path<String>,
    Words(manner): Words<Manner>,
    Body(order): Body<PoolOrder>,
) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::SetPool(order), manner.dry_run).await
}

/// All volumes, snapshots and image versions.
#[utoipa::path(get, path = "/v1/pools/{pool}/entries", responses((status = OK, body = EntryList)))]
async fn entries(State(api): State<Api>, caller: Caller, Path(pool): Path<String>) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::Entries, false).await
}

/// Removes a volume, a snapshot or an image version.
#[utoipa::path(delete, path = "/v1/pools/{pool}/entries/{name}", params(Removal), responses((status = OK, body = RemovedView)))]
async fn remove_one(
    State(api): State<Api>,
    caller: Caller,
    Path((pool, name)): Path<(String, String)>,
    Words(how): Words<Removal>,
) -> Result<Reply, Refusal> {
    let order = RemoveOrder { names: vec![name], recursive: how.recursive };
    let reply = api.carry_out(caller, pool, Ask::Remove(order), how.dry_run).await?;
    reply.or_first_failure()
}

/// A request that a body describes: one path each.
macro_rules! orders {
    ($($(#[doc = $doc:literal])+ $name:ident $path:literal $ask:ident($order:ty) -> $status:ident $answer:ty;)+) => {$(
        $(#[doc = $doc])+
        #[utoipa::path(post, path = $path, params(Manner), request_body = $order, responses((status = $status, body = $answer)))]
        async fn $name(
            State(api): State<Api>,
            caller: Caller,
            Path(pool): Path<String>,
            Words(manner): Words<Manner>,
            Body(order): Body<$order>,
        ) -> Result<Reply, Refusal> {
            api.carry_out(caller, pool, Ask::$ask(order), manner.dry_run).await
        }
    )+};
}

orders! {
    /// Makes empty volumes, one after the other.
    volumes "/v1/pools/{pool}/volumes" CreateVolumes(VolumeOrder) -> OK Done;
    /// Makes volumes from an image version or a snapshot, all or none; no data is copied.
    clones "/v1/pools/{pool}/clones" Clone(CloneOrder) -> OK Done;
    /// Takes snapshots, all at one instant.
    snapshots "/v1/pools/{pool}/snapshots" Snapshot(SnapshotOrder) -> OK Done;
    /// Returns a volume to one of its snapshots.
    rollbacks "/v1/pools/{pool}/rollbacks" Rollback(RollbackOrder) -> OK Done;
    /// Removes several names, each for itself.
    removals "/v1/pools/{pool}/removals" Remove(RemoveOrder) -> OK RemovedView;
    /// Changes the size of a volume.
    resizes "/v1/pools/{pool}/resizes" Resize(ResizeOrder) -> OK Done;
    /// Sets and removes labels.
    labels "/v1/pools/{pool}/labels" Label(LabelOrder) -> OK Done;
    /// Makes an image version from a file on the daemon's machine: a job.
    imports "/v1/pools/{pool}/imports" Import(ImportOrder) -> ACCEPTED JobView;
    /// Writes a volume, snapshot or version into a file on the daemon's machine: a job.
    image_exports "/v1/pools/{pool}/image-exports" ExportImage(ImageExportOrder) -> ACCEPTED JobView;
    /// Makes the pool larger.
    grow "/v1/pools/{pool}/grow" Grow(GrowOrder) -> OK Done;
    /// Serves a volume, snapshot or version to a virtual machine; it comes back when the daemon starts again.
    export "/v1/pools/{pool}/exports" Export(ExportOrder) -> OK ExportView;
}

/// It was done.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    /// `Done`.
    kind: String,
}

/// Waits until the space of what was removed is free: a job.
#[utoipa::path(post, path = "/v1/pools/{pool}/settle", params(Manner), responses((status = ACCEPTED, body = JobView)))]
async fn settle(
    State(api): State<Api>,
    caller: Caller,
    Path(pool): Path<String>,
    Words(manner): Words<Manner>,
) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::Settle, manner.dry_run).await
}

/// Gives back what removed names keep for their clones and no clone uses any more: a job.
#[utoipa::path(post, path = "/v1/pools/{pool}/thin", params(Manner), responses((status = ACCEPTED, body = JobView)))]
async fn thin(
    State(api): State<Api>,
    caller: Caller,
    Path(pool): Path<String>,
    Words(manner): Words<Manner>,
) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::Thin, manner.dry_run).await
}

/// Compares all metadata with each other: a job, whose answer is a `CheckView`.
#[utoipa::path(post, path = "/v1/pools/{pool}/check", responses((status = ACCEPTED, body = JobView)))]
async fn check(State(api): State<Api>, caller: Caller, Path(pool): Path<String>) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::Check, false).await
}

/// What is served over vhost-user-blk, and what each export has done.
#[utoipa::path(get, path = "/v1/pools/{pool}/exports", responses((status = OK, body = ExportList)))]
async fn exports(State(api): State<Api>, caller: Caller, Path(pool): Path<String>) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::Exports, false).await
}

/// Gives an export other limits of speed, while it is used; it keeps them when it comes back.
#[utoipa::path(patch, path = "/v1/pools/{pool}/exports/{name}", params(Manner), request_body = ExportChange, responses((status = OK, body = ExportView)))]
async fn set_export(
    State(api): State<Api>,
    caller: Caller,
    Path((pool, name)): Path<(String, String)>,
    Words(manner): Words<Manner>,
    Body(change): Body<ExportChange>,
) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::SetExport { name, change }, manner.dry_run).await
}

/// Ends an export.
#[utoipa::path(delete, path = "/v1/pools/{pool}/exports/{name}", params(Manner), responses((status = OK, body = Done)))]
async fn unexport(
    State(api): State<Api>,
    caller: Caller,
    Path((pool, name)): Path<(String, String)>,
    Words(manner): Words<Manner>,
) -> Result<Reply, Refusal> {
    api.carry_out(caller, pool, Ask::Unexport { name }, manner.dry_run).await
}

/// Who has changed what, the newest last.
#[utoipa::path(get, path = "/v1/history", params(Newest), responses((status = OK, body = RecordList)))]
async fn history(
    State(api): State<Api>,
    _caller: Caller,
    Words(newest): Words<Newest>,
) -> Result<Json<RecordList>, Refusal> {
    let items = api.history(newest.pool, newest.limit.unwrap_or(100).min(RECORDS_MAX)).await?;
    Ok(Json(RecordList { items }))
}

/// Jobs that run, and those that have ended lately.
#[utoipa::path(get, path = "/v1/jobs", responses((status = OK, body = JobList)))]
async fn jobs(State(api): State<Api>, _caller: Caller) -> Json<JobList> {
    Json(JobList { items: api.jobs().all() })
}

/// One job.
#[utoipa::path(get, path = "/v1/jobs/{id}", responses((status = OK, body = JobView)))]
async fn job(
    State(api): State<Api>,
    _caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Refusal> {
    Ok(Json(api.job(&id)?.view()))
}

/// Cancels a job; the answer is how it stood. Whoever is no admin cancels his own only.
#[utoipa::path(delete, path = "/v1/jobs/{id}", responses((status = ACCEPTED, body = JobView)))]
async fn cancel(State(api): State<Api>, caller: Caller, Path(id): Path<String>) -> Result<Reply, Refusal> {
    let job = api.job(&id)?;
    caller.may_cancel(&job.view())?;
    job.cancel()?;
    Ok(Reply::job(&job.view()))
}

/// A job's progress as server-sent events: `progress` with a `JobView` for each step, `end` with the last one.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", responses((status = OK, content_type = "text/event-stream", body = JobView)))]
async fn events(
    State(api): State<Api>,
    _caller: Caller,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let receiver = api.job(&id)?.watch();
    let stream = unfold((Some(receiver), true), |(receiver, is_first)| async move {
        let mut receiver = receiver?;
        if !is_first && receiver.changed().await.is_err() {
            return None;
        }
        let view = receiver.borrow_and_update().clone();
        let is_last = view.state != JobState::Running;
        let event = Event::default().event(if is_last { "end" } else { "progress" });
        let event = event.json_data(&view).ok()?;
        Some((Ok(event), ((!is_last).then_some(receiver), false)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// What was asked for at a path that is none.
pub(super) async fn nowhere() -> Refusal {
    let why = "there is no such path, or not with this method";
    Refusal::from(Failure::new(Code::NotFound, "the request was refused", why, "GET /v1/openapi.json"))
}
