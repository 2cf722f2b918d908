//! Long work: started, watched by as many as like to, cancelled by whoever may, and remembered for a while.

use crate::clock;
use crate::failure::{Code, Failure};
use crate::handler::{Held, Watcher, handle};
use crate::history::{Author, History, failure_in};
use crate::random;
use crate::wire::{Ask, JobState, JobView};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Jobs that are remembered after their end.
const ENDED_MAX: usize = 256;
/// Jobs that run at one time.
const RUNNING_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Job {
    view: watch::Sender<JobView>,
    cancelled: AtomicBool,
    can_be_cancelled: bool,
}

impl Job {
    pub(super) fn view(&self) -> JobView {
        self.view.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<JobView> {
        self.view.subscribe()
    }

    /// It ends soon, unless it is about to end anyway.
    pub(super) fn cancel(&self) -> Result<(), Failure> {
        if !self.can_be_cancelled {
            let view = self.view();
            let what = format!("{} is not cancelled", view.id);
            let why = format!("'{}' goes on until it is done", view.command);
            return Err(Failure::new(Code::Conflict, what, why, format!("offshoot job follow {}", view.id)));
        }
        self.give_up();
        Ok(())
    }

    fn give_up(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    fn is_running(&self) -> bool {
        self.view.borrow().state == JobState::Running
    }

    fn end(&self, result: Result<crate::wire::Answer, Failure>) {
        let cancelled = self.cancelled.load(Ordering::SeqCst);
        self.view.send_modify(|view| {
            view.ended = Some(clock::rfc3339(clock::unix_seconds()));
            match result {
                Ok(answer) => {
                    view.state = JobState::Done;
                    view.answer = Some(answer);
                }
                Err(failure) => {
                    view.state = if cancelled { JobState::Cancelled } else { JobState::Failed };
                    view.failure = Some(failure);
                }
            }
        });
    }
}

impl Watcher for &Job {
    fn progress(&mut self, done: u64, total: u64) -> bool {
        self.view.send_if_modified(|view| {
            let is_news = (view.done, view.total) != (done, total);
            (view.done, view.total) = (done, total);
            is_news
        });
        !self.cancelled.load(Ordering::SeqCst)
    }
}

/// A job ends with its thread, however that ends.
struct Ending(Arc<Job>);

impl Drop for Ending {
    fn drop(&mut self) {
        if self.0.is_running() {
            let view = self.0.view();
            let what = format!("{} was not finished", view.command);
            self.0.end(Err(Failure::new(
                Code::Failed,
                what,
                "its thread ended",
                "the log of offshoot serve",
            )));
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: Mutex<VecDeque<Arc<Job>>>,
    ending: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Jobs {
    pub(super) fn start(
        &self,
        pool: &str,
        held: Held,
        history: History,
        mut author: Author,
        ask: Ask,
    ) -> Result<Arc<Job>, Failure> {
        let what = crate::handler::describe(&ask);
        let refused = |code, why: String| Failure::new(code, what.clone(), why, "offshoot job ls");
        let id =
            fresh_id().map_err(|error| refused(Code::Failed, format!("no random identifier: {error}")))?;
        author.job = Some(id.clone());
        let job = Arc::new(Job {
            view: watch::Sender::new(JobView {
                id,
                pool: pool.to_owned(),
                command: ask.word().to_owned(),
                user: author.user,
                state: JobState::Running,
                done: 0,
                total: 0,
                started: clock::rfc3339(clock::unix_seconds()),
                ended: None,
                answer: None,
                failure: None,
            }),
            cancelled: AtomicBool::new(false),
            can_be_cancelled: !matches!(ask, Ask::Settle | Ask::Thin),
        });
        let mut jobs = self.lock();
        if self.ending.load(Ordering::SeqCst) {
            return Err(refused(Code::Unreachable, "the daemon ends".to_owned()));
        }
        if jobs.iter().filter(|job| job.is_running()).count() >= RUNNING_MAX {
            return Err(refused(Code::Conflict, format!("{RUNNING_MAX} jobs are under way")));
        }
        let (pool, worked) = (pool.to_owned(), job.clone());
        let work = move || {
            let _panics_end_it_too = Ending(worked.clone());
            let run = || handle(&held, ask.clone(), &mut &*worked);
            let result = history.of(&pool, &author, &ask, run, failure_in);
            // What the job held is let go before anybody hears that it has ended.
            drop(held);
            worked.end(result);
        };
        let thread = std::thread::Builder::new().name("job".to_owned()).spawn(work);
        let thread = thread.map_err(|error| refused(Code::Failed, format!("no thread: {error}")))?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        while jobs.len() > ENDED_MAX {
            let Some(oldest) = jobs.iter().position(|job| !job.is_running()) else { break };
            jobs.remove(oldest);
        }
        jobs.push_back(job.clone());
        Ok(job)
    }

    pub(super) fn all(&self) -> Vec<JobView> {
        self.lock().iter().map(|job| job.view()).collect()
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Job>> {
        self.lock().iter().find(|job| job.view.borrow().id == id).cloned()
    }

    /// Cancels what runs and waits for its end.
    pub(super) fn stop(&self) {
        {
            let jobs = self.lock();
            self.ending.store(true, Ordering::SeqCst);
            jobs.iter().for_each(|job| job.give_up());
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _its_panic_was_printed = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh_id() -> std::io::Result<String> {
    Ok(format!("j-{:08x}", u32::from_le_bytes(random::bytes()?)))
}
