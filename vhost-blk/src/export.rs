//! An export: a volume, its socket, and the thread that talks to its monitor, one connection after the other.

use crate::back_channel::BackChannel;
use crate::conversation::Conversation;
use crate::counters::{Counters, Counts};
use crate::error::Error;
use crate::notifier::Signal;
use crate::session::Session;
use crate::workers::Workers;
use parking_lot::Mutex;
use rate_limit::{RateLimiter, RateLimits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use thinpool::{Access, Attachment, Name, Pool};
use unix_socket::{Owner, SocketFile};

/// What to serve and where.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    pub name: Name,
    pub socket: PathBuf,
    /// Permission bits of the socket file.
    pub mode: u32,
    /// Whose the socket file is.
    pub owner: Owner,
    pub access: Access,
    /// Rings a monitor may use, 1 to [`QUEUES_MAX`](crate::QUEUES_MAX).
    pub queues: u16,
    /// Limits of speed, of all its rings together.
    pub rate_limits: RateLimits,
}

/// An export as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportStatus {
    pub name: String,
    pub socket: PathBuf,
    pub read_only: bool,
    pub connected: bool,
    pub rate_limits: RateLimits,
    /// Since it began.
    pub counts: Counts,
}

/// A running export. Dropping it ends its connection, waits for what is in flight, and removes the socket.
#[derive(Debug)]
pub(crate) struct Export {
    attachment: Attachment,
    socket: PathBuf,
    line: Arc<Line>,
    counters: Arc<Counters>,
    limiter: Arc<RateLimiter>,
    thread: Option<JoinHandle<()>>,
}

/// Between the thread of an export and whoever ends it.
#[derive(Debug)]
struct Line {
    closing: Signal,
    is_closing: AtomicBool,
    connection: Mutex<Option<UnixStream>>,
    /// Where its monitor listens, if it does.
    back_channel: Mutex<Option<BackChannel>>,
}

impl Export {
    pub(crate) fn start(pool: &Pool, workers: &Workers, options: &ExportOptions) -> Result<Self, Error> {
        let attachment = pool.attach(&options.name, options.access)?;
        let socket = SocketFile::bind_for(options.owner, &options.socket, options.mode)?;
        let line = Arc::new(Line {
            closing: Signal::new().map_err(Error::Thread)?,
            is_closing: AtomicBool::new(false),
            connection: Mutex::default(),
            back_channel: Mutex::default(),
        });
        let counters = Arc::new(Counters::new(options.queues));
        let limiter = Arc::new(RateLimiter::new(options.rate_limits));
        let serving = Serving {
            attachment: attachment.for_thread(),
            workers: workers.clone(),
            queues: options.queues,
            write_through: Arc::default(),
            counters: counters.clone(),
            limiter: limiter.clone(),
            line: line.clone(),
        };
        let spawned =
            std::thread::Builder::new().name("vhost-export".to_owned()).spawn(move || serving.run(&socket));
        let thread = Some(spawned.map_err(Error::Thread)?);
        Ok(Self { attachment, socket: options.socket.clone(), line, counters, limiter, thread })
    }

    pub(crate) fn name(&self) -> String {
        self.attachment.name()
    }

    /// Tells the monitor, if there is one that listens, to read the configuration again.
    pub(crate) fn tell_of_change(&self) {
        if let Some(back_channel) = &*self.line.back_channel.lock() {
            back_channel.tell_of_change();
        }
    }

    /// Who waits for a turn has to be told.
    pub(crate) fn set_rate_limits(&self, limits: RateLimits) {
        self.limiter.set(limits);
    }

    pub(crate) fn status(&self) -> ExportStatus {
        ExportStatus {
            name: self.name(),
            socket: self.socket.clone(),
            read_only: self.attachment.is_read_only(),
            connected: self.line.connection.lock().is_some(),
            rate_limits: self.limiter.limits(),
            counts: self.counters.sum(),
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.line.is_closing.store(true, Ordering::SeqCst);
        self.line.closing.give();
        self.line.hang_up();
        let _its_panic_was_printed = self.thread.take().map(JoinHandle::join);
    }
}

impl Line {
    fn hang_up(&self) {
        if let Some(connection) = &*self.connection.lock() {
            // A monitor that has gone already has hung up itself.
            let _gone_is_fine = connection.shutdown(Shutdown::Both);
        }
    }

    /// A monitor that cannot be let in, as when there are no descriptors left, is not asked for without end.
    fn pause(&self) {
        let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let _interrupted_is_fine = poll(&mut [PollFd::new(&self.closing, PollFlags::IN)], Some(&pause));
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }
}

struct Serving {
    attachment: Attachment,
    workers: Workers,
    queues: u16,
    write_through: Arc<AtomicBool>,
    counters: Arc<Counters>,
    limiter: Arc<RateLimiter>,
    line: Arc<Line>,
}

impl Serving {
    fn run(&self, socket: &SocketFile) {
        while !self.line.is_closing() {
            let mut polled =
                [PollFd::new(&self.line.closing, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
            // An interrupted wait is a short wait.
            let _interrupted_is_fine = poll(&mut polled, None);
            match socket.accept() {
                Ok(stream) => self.serve(stream.into()),
                Err(_) => self.line.pause(),
            }
        }
    }

    fn serve(&self, stream: UnixStream) {
        let Ok(connection) = stream.try_clone() else { return };
        *self.line.connection.lock() = Some(connection);
        if self.line.is_closing() {
            self.line.hang_up();
        }
        let session = Session::new(
            self.attachment.for_thread(),
            self.workers.clone(),
            self.queues,
            self.write_through.clone(),
            self.counters.clone(),
            self.limiter.clone(),
        );
        if let Ok(mut conversation) = Conversation::new(stream, session) {
            while conversation.hear(&self.line.back_channel) {}
        }
        *self.line.back_channel.lock() = None;
        *self.line.connection.lock() = None;
    }
}
