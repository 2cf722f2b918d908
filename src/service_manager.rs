//! What systemd, or whoever speaks as it does, hands to the daemon and hears of it: sockets that listen already
//! (sd_listen_fds(3)), readiness, signs of life and the end (sd_notify(3)). Without it nothing here does anything.

use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use thinpool::Pool;

/// The stream sockets this process was started with.
pub(crate) fn inherited_sockets() -> io::Result<Vec<OwnedFd>> {
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..given.len() {
        if let Ok(Some(socket)) = given.take_unix_listener(index) {
            sockets.push(socket.into());
        } else if let Some(socket) = given.take_tcp_listener(index)? {
            sockets.push(socket.into());
        }
    }
    Ok(sockets)
}

/// Tells who started the daemon how it stands. A manager that is gone does not miss it.
pub(crate) fn tell(state: &NotifyState<'_>) {
    let _unheard_is_fine = sd_notify::notify(std::slice::from_ref(state));
}

/// Signs of life for as long as the pools answer, twice as often as they are asked for.
#[derive(Debug)]
pub(crate) struct Watchdog {
    ending: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// Nothing where no signs are asked for.
    pub(crate) fn start(pools: Vec<Pool>) -> io::Result<Option<Self>> {
        let Some(patience) = sd_notify::watchdog_enabled() else { return Ok(None) };
        let (ending, ended) = channel();
        let run = move || {
            while ended.recv_timeout(interval(patience)) == Err(RecvTimeoutError::Timeout) {
                // It waits for the locks that everybody needs; if it waits for ever, there is no sign of life.
                pools.iter().for_each(|pool| drop(pool.status()));
                tell(&NotifyState::Watchdog);
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(run)?;
        Ok(Some(Self { ending, thread }))
    }

    pub(crate) fn stop(self) {
        drop(self.ending);
        let _its_panic_was_printed = self.thread.join();
    }
}

fn interval(patience: Duration) -> Duration {
    (patience / 2).max(Duration::from_millis(1))
}
