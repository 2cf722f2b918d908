//! `offshoot job`: the long work of a daemon.

use crate::arguments::{JobVerb, View};
use crate::daemon::Client;
use crate::failure::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::list::{Column, Shown, column, extra, print_list};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::progress::Progress;
use crate::reach::{LOOK, Reach};
use crate::wire::{JobList, JobState, JobView};
use serde::Serialize;

const COLUMNS: [Column; 9] = [
    column("id", "JOB", Shown::Text),
    column("pool", "POOL", Shown::Text),
    column("command", "COMMAND", Shown::Text),
    column("state", "STATE", Shown::Text),
    column("progress", ">PROGRESS", Shown::Text),
    column("user", ">USER", Shown::Text),
    column("started", "STARTED", Shown::Text),
    column("ended", "ENDED", Shown::Text),
    extra("why", "WHY", Shown::Text),
];

#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    job: &'a JobView,
    progress: Option<String>,
    why: Option<&'a str>,
}

pub(super) fn run(pool: &PoolChoice, verb: JobVerb, view: &View, style: Style) -> Result<(), Failure> {
    match verb {
        JobVerb::Ls => with_daemon(pool, |client| {
            let jobs: JobList = client.get("/v1/jobs")?;
            let items: Vec<Item<'_>> = jobs.items.iter().map(item).collect();
            print_list("JobList", &COLUMNS, &items, view)
        }),
        JobVerb::Follow(job) => {
            let interrupt = Interrupt::watch()?;
            with_daemon(pool, |client| {
                let mut progress = Progress::new(interrupt.clone());
                let ended = client.follow(&job.id, &mut progress);
                progress.end();
                report(&ended?, style)
            })
        }
        JobVerb::Cancel(job) => with_daemon(pool, |client| {
            let view: JobView = client.cancel(&job.id)?;
            let sentence = match view.state {
                JobState::Running => {
                    format!("{} is being cancelled; next: offshoot job follow {}", job.id, job.id)
                }
                ended => format!("{} is {} already", job.id, ended.word()),
            };
            tell(style, "Job", &view, &sentence)
        }),
    }
}

fn with_daemon(pool: &PoolChoice, run: impl FnOnce(&Client) -> Result<(), Failure>) -> Result<(), Failure> {
    pool.with(LOOK, |reach: &mut Reach| match reach.daemon() {
        Some(client) => run(client),
        None => {
            let why = "jobs are a daemon's, and none holds this pool";
            Err(Failure::new(Code::Unreachable, "there are no jobs", why, "offshoot serve"))
        }
    })
}

fn report(job: &JobView, style: Style) -> Result<(), Failure> {
    match (&job.failure, job.state) {
        (Some(failure), _) => Err(failure.clone()),
        (None, state) => tell(style, "Job", job, &format!("{} is {}", job.id, state.word())),
    }
}

fn item(job: &JobView) -> Item<'_> {
    let percent = || u128::from(job.done) * 100 / u128::from(job.total);
    Item {
        job,
        progress: (job.total > 0).then(|| format!("{} %", percent())),
        why: job.failure.as_ref().map(|failure| failure.why.as_str()),
    }
}
