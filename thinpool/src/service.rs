//! The keeper's thread.

use crate::command::Command;
use crate::core::Core;
use crate::error::Error;
use crate::keeper::Keeper;
use crate::pool::submit;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// A thread that runs a pool's keeper until it is stopped.
#[derive(Debug)]
pub struct Service {
    core: Arc<Core>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Service {
    /// # Errors
    /// When there can be no further thread; then the pool is as after a crash.
    #[expect(clippy::disallowed_methods, reason = "this thread is where the clock enters the engine")]
    pub fn start(keeper: Keeper) -> Result<Self, Error> {
        let core = keeper.core().clone();
        let run = move || {
            let begun = Instant::now();
            keeper.run(|| begun.elapsed())
        };
        let thread =
            std::thread::Builder::new().name("keeper".to_owned()).spawn(run).map_err(Error::Thread)?;
        Ok(Self { core, thread: Some(thread) })
    }

    /// Closes the pool: what is staged becomes durable, and the next opening has nothing to recover.
    ///
    /// # Errors
    /// When the pool cannot end clean; the next opening recovers it.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let closing = submit(&self.core, Command::Close);
        match thread.join() {
            Ok(ended) => ended.and_then(|()| closing.take().map_or(Ok(()), |outcome| outcome.map(drop))),
            Err(_panicked) => Err(Error::KeeperGone),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        let _unheard = self.end();
    }
}
