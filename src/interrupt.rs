//! Ctrl-C and SIGTERM while a command has a pool open: the command comes to a clean end by itself, because a pool is
//! closed, not dropped. Whoever cannot wait for that signals twice; the next opening then recovers.

use crate::failure::{Code, Failure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a command that was signalled twice, as shells have it for SIGINT.
const IMPATIENT: i32 = 130;

/// Set by the first of the signals.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    raised: Arc<AtomicBool>,
}

impl Interrupt {
    pub(crate) fn watch() -> Result<Self, Failure> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let second = signal_hook::flag::register_conditional_shutdown(signal, IMPATIENT, raised.clone());
            let first = second.and_then(|_| signal_hook::flag::register(signal, raised.clone()));
            first.map_err(|error| {
                let why = format!("signals cannot be handled: {error}");
                Failure::new(Code::Failed, "nothing was done", why, "the same command again")
            })?;
        }
        Ok(Self { raised })
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }
}
