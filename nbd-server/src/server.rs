//! The server: its listeners, its workers, and their end.

use crate::acceptor::{Acceptor, Places};
use crate::error::Error;
use crate::exports::ExportTable;
use crate::limits::Limits;
use crate::listen::{Listen, Listener};
use crate::signal::Signal;
use crate::tls::{Security, Stance, Tls};
use crate::worker::{self, Message};
use rate_limit::RateLimits;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use thinpool::Pool;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// What to serve, where and with how many threads.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub listen: Vec<Listen>,
    /// The volume, snapshot or version that clients get who name none.
    pub default_export: Option<String>,
    pub limits: Limits,
    /// Limits of speed by the names of exports, whether they are there yet or not. Others have none.
    pub rate_limits: BTreeMap<String, RateLimits>,
    /// What TLS is made of; without it there is none, and nothing is listened on but Unix sockets and loopback addresses.
    pub tls: Option<Tls>,
    /// Talk over TLS only, on every socket; beyond loopback addresses, and with grants on all of TCP, it is so anyway.
    pub tls_required: bool,
    /// Threads; each has its own channel to the pool. At least one.
    pub workers: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        Self {
            listen: Vec::new(),
            default_export: None,
            limits: Limits::default(),
            rate_limits: BTreeMap::new(),
            tls: None,
            tls_required: false,
            workers,
        }
    }
}

/// A running server. Dropping it is [`Server::shutdown`].
#[derive(Debug)]
pub struct Server {
    addresses: Vec<(Listen, Stance)>,
    workers: Vec<UnboundedSender<Message>>,
    threads: Vec<JoinHandle<()>>,
    places: Places,
    exports: Arc<ExportTable>,
    closing: Signal,
}

impl Server {
    /// Serves all volumes, snapshots and versions of a pool by name.
    ///
    /// When this returns, clients can connect. On an error nothing is left behind.
    pub fn start(pool: &Pool, options: ServerOptions) -> Result<Self, Error> {
        Self::start_on(pool, options, Vec::new())
    }

    /// The same, also on sockets that listen already.
    pub fn start_on(pool: &Pool, options: ServerOptions, inherited: Vec<OwnedFd>) -> Result<Self, Error> {
        let secure = options.tls.as_ref().map_or(Security::None, |tls| tls.security(options.tls_required));
        let adopted = inherited.into_iter().map(|socket| Listener::adopt(socket, secure));
        let bound = options.listen.iter().map(|listen| Listener::bind(listen, secure));
        let listeners = adopted.chain(bound).collect::<Result<Vec<_>, _>>()?;
        let exports = ExportTable::new(
            pool.clone(),
            options.default_export,
            options.limits.connections_max,
            options.rate_limits,
        );
        let mut server = Self {
            addresses: listeners
                .iter()
                .map(|listener| (listener.address().clone(), listener.stance()))
                .collect(),
            workers: Vec::new(),
            threads: Vec::new(),
            exports: Arc::new(exports),
            // Twice the handshakes: those that are cut take a moment to end.
            places: Places::new(
                options.limits.connections_max + 2 * options.limits.handshakes_max * options.workers.max(1),
            ),
            closing: Signal::new().map_err(Error::Thread)?,
        };
        for number in 0..options.workers.max(1) {
            server.start_worker(number, pool, &options.limits, options.tls.as_ref())?;
        }
        server.start_acceptor(listeners)?;
        Ok(server)
    }

    /// Where the server listens, inherited sockets first, then in the order of its options, with real TCP ports, and whether clients must start TLS there.
    pub fn addresses(&self) -> impl Iterator<Item = (&Listen, bool)> {
        self.addresses.iter().map(|(address, tls)| (address, *tls == Stance::Required))
    }

    /// Clients connected at this moment.
    pub fn connections(&self) -> usize {
        self.places.taken()
    }

    /// Gives an export other limits of speed, from its next request on; requests that wait have their turn by the new ones. All
    /// clients that have the export open share its limits.
    pub fn set_rate_limits(&self, export: &str, limits: RateLimits) {
        self.exports.limiters().set(export, limits);
        for worker in &self.workers {
            let _ended_is_fine = worker.send(Message::Relimited);
        }
    }

    /// The limits of speed an export has.
    #[must_use]
    pub fn rate_limits(&self, export: &str) -> RateLimits {
        self.exports.limiters().limits(export)
    }

    /// Stops listening, answers what is in flight for as long as the drain deadline allows, and closes.
    pub fn shutdown(self) {
        drop(self);
    }

    fn start_worker(
        &mut self,
        number: usize,
        pool: &Pool,
        limits: &Limits,
        tls: Option<&Tls>,
    ) -> Result<(), Error> {
        let (sender, inbox) = unbounded_channel();
        let (ready, came_up) = sync_channel(1);
        let (pool, limits, tls, exports) = (pool.clone(), limits.clone(), tls.cloned(), self.exports.clone());
        let run = move || worker::run(&pool, limits, exports, tls, inbox, &ready);
        self.spawn(format!("nbd-{number}"), run)?;
        self.workers.push(sender);
        came_up.recv().map_err(|_| Error::Thread(std::io::Error::other("the worker ended while starting")))?
    }

    fn start_acceptor(&mut self, listeners: Vec<Listener>) -> Result<(), Error> {
        let acceptor = Acceptor::new(listeners, self.workers.clone(), self.places.clone());
        let closing = self.closing.try_clone().map_err(Error::Thread)?;
        self.spawn("nbd-accept".to_owned(), move || acceptor.run(&closing))
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name).spawn(run).map_err(Error::Thread)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.give();
        for worker in self.workers.drain(..) {
            let _ended_is_fine = worker.send(Message::Drain);
        }
        for thread in self.threads.drain(..) {
            let _panicked_is_reported_by_the_panic = thread.join();
        }
    }
}
