//! Accepts connections and hands them to the workers in turn, as long as there are places for them.

use crate::listen::Listener;
use crate::signal::Signal;
use crate::tls::Stance;
use crate::worker::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::UnboundedSender;

/// Pause after a failed accept, when the process is out of descriptors or memory: 100 ms.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A number of connections that there may be.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One of them, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self) -> Option<Place> {
        let more = |taken: usize| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(self.taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
    workers: Vec<UnboundedSender<Message>>,
    places: Places,
    next: usize,
}

impl Acceptor {
    pub(crate) fn new(
        listeners: Vec<Listener>,
        workers: Vec<UnboundedSender<Message>>,
        places: Places,
    ) -> Self {
        Self { listeners, workers, places, next: 0 }
    }

    /// Accepts until the server closes.
    pub(crate) fn run(mut self, closing: &Signal) {
        while let Ok(ready) = self.wait(closing) {
            let Some(ready) = ready else { return };
            for index in ready {
                match self.listeners[index].accept() {
                    Ok(socket) => self.hand_over(socket, self.listeners[index].stance()),
                    Err(error) if is_about_the_client(error.kind()) => {}
                    Err(_) => pause(closing),
                }
            }
        }
    }

    /// The listeners on which somebody waits; none when the server closes.
    fn wait(&self, closing: &Signal) -> io::Result<Option<Vec<usize>>> {
        let mut polled = vec![PollFd::new(closing, PollFlags::IN)];
        polled.extend(self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Some(Vec::new())),
            Err(errno) => return Err(errno.into()),
        }
        let ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
        if ready(&polled[0]) {
            return Ok(None);
        }
        Ok(Some((0..self.listeners.len()).filter(|index| ready(&polled[index + 1])).collect()))
    }

    /// One connection too many is closed without a word.
    fn hand_over(&mut self, socket: OwnedFd, tls: Stance) {
        if let Some(place) = self.places.take() {
            self.next = (self.next + 1) % self.workers.len();
            // A worker that has ended drops the socket with the message.
            let _ended_is_fine = self.workers[self.next].send(Message::Serve(socket, tls, place));
        }
    }
}

/// The client has gone again, or there was none; the next one may do better.
fn is_about_the_client(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(kind, ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}

/// Waits a little, and no longer when the server closes.
fn pause(closing: &Signal) {
    // An interrupted pause is a short pause.
    let _interrupted_is_fine = poll(&mut [PollFd::new(closing, PollFlags::IN)], Some(&PAUSE));
}
