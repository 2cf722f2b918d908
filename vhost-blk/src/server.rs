//! The server: its workers and its exports.

use crate::error::Error;
use crate::export::{Export, ExportOptions, ExportStatus};
use crate::limits::{QUEUES_MAX, SPIN};
use crate::mailbox::{Mailbox, Message};
use crate::worker::Worker;
use crate::workers::Workers;
use parking_lot::Mutex;
use rate_limit::RateLimits;
use std::thread::JoinHandle;
use std::time::Duration;
use thinpool::{Name, Pool};

/// How many threads serve, and how eagerly.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Each has its own channel to the pool. At least one.
    pub workers: usize,
    /// How long a worker with nothing to do looks for work before it sleeps, and for the answer of a disk about when it is due.
    pub spin: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        Self { workers, spin: SPIN }
    }
}

/// A running server. Dropping it ends every export, waits for what is in flight, and ends the workers.
#[derive(Debug)]
pub struct Server {
    pool: Pool,
    exports: Mutex<Vec<Export>>,
    workers: Workers,
    mailboxes: Vec<Mailbox>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts the workers; nothing is exported yet.
    ///
    /// # Errors
    /// When the pool has no channels left, or the system no threads.
    pub fn start(pool: &Pool, options: &ServerOptions) -> Result<Self, Error> {
        let count = options.workers.max(1);
        let made: std::io::Result<Vec<Mailbox>> = (0..count).map(|_| Mailbox::new()).collect();
        let mailboxes = made.map_err(Error::Thread)?;
        let workers = Workers::new(mailboxes.clone());
        let mut server =
            Self { pool: pool.clone(), exports: Mutex::default(), workers, mailboxes, threads: Vec::new() };
        // What was started ends with the server, also when the next one does not start.
        for number in 0..count {
            let mailbox = server.mailboxes[number].clone();
            let worker = Worker::new(pool.channel()?, mailbox, options.spin).map_err(Error::Thread)?;
            let builder = std::thread::Builder::new().name(format!("vhost-{number}"));
            server.threads.push(builder.spawn(move || worker.run()).map_err(Error::Thread)?);
        }
        Ok(server)
    }

    /// Serves one volume, snapshot or version. When this returns, a monitor can connect.
    ///
    /// # Errors
    /// When it is exported already, open for writing elsewhere, or the socket cannot be made.
    pub fn export(&self, options: &ExportOptions) -> Result<(), Error> {
        if !(1..=QUEUES_MAX).contains(&options.queues) {
            return Err(Error::Queues { asked: options.queues });
        }
        let mut exports = self.exports.lock();
        let name = options.name.to_string();
        if exports.iter().any(|export| export.name() == name) {
            return Err(Error::Exported(name));
        }
        exports.push(Export::start(&self.pool, &self.workers, options)?);
        Ok(())
    }

    /// Ends an export: its monitor is disconnected, what is in flight is finished.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn unexport(&self, name: &Name) -> Result<(), Error> {
        let mut exports = self.exports.lock();
        let text = name.to_string();
        let place = exports.iter().position(|export| export.name() == text);
        let export = exports.remove(place.ok_or(Error::NotExported(text))?);
        drop(exports);
        drop(export);
        Ok(())
    }

    /// Gives an export other limits of speed, from its next request on; requests that wait have their turn by the new ones.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn set_rate_limits(&self, name: &Name, limits: RateLimits) -> Result<(), Error> {
        let text = name.to_string();
        let exports = self.exports.lock();
        let export = exports.iter().find(|export| export.name() == text);
        export.ok_or(Error::NotExported(text))?.set_rate_limits(limits);
        self.mailboxes.iter().for_each(|mailbox| mailbox.send(Message::Relimited));
        Ok(())
    }

    /// The volume has another size: its guest is told, if it is exported and its monitor listens.
    pub fn resized(&self, name: &Name) {
        let text = name.to_string();
        self.exports.lock().iter().filter(|export| export.name() == text).for_each(Export::tell_of_change);
    }

    #[cfg(any(test, feature = "rehearsal"))]
    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// All exports, in the order they were made.
    #[must_use]
    pub fn exports(&self) -> Vec<ExportStatus> {
        self.exports.lock().iter().map(Export::status).collect()
    }

    /// Ends everything.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.exports.lock().clear();
        self.mailboxes.iter().for_each(|mailbox| mailbox.send(Message::End));
        for thread in self.threads.drain(..) {
            let _its_panic_was_printed = thread.join();
        }
    }
}
