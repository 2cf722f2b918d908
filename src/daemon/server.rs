//! The daemon's end of the control socket.

use super::LINE_BYTES_MAX;
use crate::failure::{Code, Failure};
use crate::handler::{Held, Watcher, handle};
use crate::run_directory;
use crate::wire::{Answer, Ask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Commands carried out or waiting at one time.
const CONNECTIONS_MAX: usize = 32;
/// How often a waiting thread looks whether the daemon ends.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// A client that takes no answer for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens until it is stopped.
#[derive(Debug)]
pub(crate) struct ControlServer {
    path: PathBuf,
    ending: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl ControlServer {
    /// Only for the holder of the pool: a socket that is there already is a dead daemon's, and is replaced.
    pub(crate) fn start(path: &Path, held: Held) -> Result<Self, Failure> {
        let refused = |error: io::Error| {
            let why = format!("{}: {error}", path.display());
            Failure::new(Code::Failed, "the pool is not served", why, "ls -l on that directory")
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(refused)?;
        rustix::fs::chmod(path, run_directory::private_file_mode()).map_err(|errno| refused(errno.into()))?;
        listener.set_nonblocking(true).map_err(refused)?;
        let ending = Arc::new(AtomicBool::new(false));
        let doorman = Doorman { held, ending: ending.clone(), open: Arc::default() };
        let acceptor = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || doorman.run(&listener))
            .map_err(refused)?;
        Ok(Self { path: path.to_owned(), ending, acceptor })
    }

    /// Cancels imports and checks, waits for what is being carried out, and removes the socket.
    pub(crate) fn stop(self) {
        self.ending.store(true, Ordering::SeqCst);
        let _its_panic_was_printed = self.acceptor.join();
        let _gone_is_fine = std::fs::remove_file(&self.path);
    }
}

/// One of the connections that may be open; given back however its thread ends.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Doorman {
    held: Held,
    ending: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
}

impl Doorman {
    fn run(&self, listener: &UnixListener) {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        while !self.ending.load(Ordering::SeqCst) {
            threads.retain(|thread| !thread.is_finished());
            if is_readable(listener)
                && let Ok((stream, _)) = listener.accept()
            {
                threads.extend(self.admit(stream));
            }
        }
        for thread in threads {
            let _its_panic_was_printed = thread.join();
        }
    }

    fn admit(&self, stream: UnixStream) -> Option<JoinHandle<()>> {
        if let Err(failure) = self.check(&stream) {
            // A caller that does not hear why is as unwelcome as one that does.
            let _unheard_is_fine = send(&stream, &Answer::Failed(failure));
            return None;
        }
        let caller = self.clone();
        let place = Place::take(&self.open);
        let serve = move || {
            caller.serve(&stream);
            drop(place);
        };
        std::thread::Builder::new().name("command".to_owned()).spawn(serve).ok()
    }

    fn check(&self, stream: &UnixStream) -> Result<(), Failure> {
        let refused = |code, why: &str| Failure::new(code, "the command was refused", why, "sudo");
        stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)))
            .map_err(|error| refused(Code::Failed, &error.to_string()))?;
        let peer = socket_peercred(stream).map_err(|errno| refused(Code::Failed, &errno.to_string()))?;
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            return Err(refused(Code::Failed, "the daemon answers its own user and root only"));
        }
        if self.open.load(Ordering::SeqCst) >= CONNECTIONS_MAX {
            let why = format!("{CONNECTIONS_MAX} commands are under way");
            return Err(Failure::new(
                Code::Conflict,
                "the command was refused",
                why,
                "the same command again",
            ));
        }
        Ok(())
    }

    fn serve(&self, stream: &UnixStream) {
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        loop {
            line.clear();
            if lines.buffer().is_empty() && !self.wait_for_line(stream) {
                return;
            }
            match lines.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
                Ok(length) if length > 0 && line.ends_with('\n') => {}
                _ => return,
            }
            let answer = self.answer(&line, stream).unwrap_or_else(Answer::Failed);
            if send(stream, &answer).is_err() {
                return;
            }
        }
    }

    fn answer(&self, line: &str, stream: &UnixStream) -> Result<Answer, Failure> {
        let ask: Ask = serde_json::from_str(line).map_err(|error| {
            let why = format!("the daemon is of another version: {error}");
            Failure::new(Code::Usage, "the command was refused", why, "offshoot --version")
        })?;
        handle(&self.held, ask, &mut Caller { stream, ending: &self.ending })
    }

    /// False when the daemon ends.
    fn wait_for_line(&self, stream: &UnixStream) -> bool {
        while !self.ending.load(Ordering::SeqCst) {
            if is_readable(stream) {
                return true;
            }
        }
        false
    }
}

fn is_readable(socket: impl std::os::fd::AsFd) -> bool {
    matches!(poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&LOOK)), Ok(1..))
}

fn send(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}

/// Whoever waits for a long command. It cancels by hanging up.
struct Caller<'a> {
    stream: &'a UnixStream,
    ending: &'a AtomicBool,
}

impl Watcher for Caller<'_> {
    fn progress(&mut self, done: u64, total: u64) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut polled = [PollFd::new(self.stream, PollFlags::RDHUP)];
        let hung_up = matches!(poll(&mut polled, Some(&now)), Ok(1..));
        let told = send(self.stream, &Answer::Progress { done, total });
        !hung_up && told.is_ok() && !self.ending.load(Ordering::SeqCst)
    }
}
