//! The command's end of the control socket.

use super::LINE_BYTES_MAX;
use crate::failure::{Code, Failure};
use crate::handler::Watcher;
use crate::wire::{Answer, Ask};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// `None` when no daemon answers there.
    pub(crate) fn connect(socket: &Path) -> Result<Option<Self>, Failure> {
        match UnixStream::connect(socket) {
            Ok(stream) => Ok(Some(Self { stream: BufReader::new(stream) })),
            Err(error) if is_nobody(&error) => Ok(None),
            Err(error) => Err(unreachable(&format!("{}: {error}", socket.display()))),
        }
    }

    pub(crate) fn ask(&mut self, ask: &Ask, watcher: &mut dyn Watcher) -> Result<Answer, Failure> {
        let mut line = serde_json::to_string(ask).map_err(|error| unreachable(&error.to_string()))?;
        line.push('\n');
        // A daemon that refuses the caller says why and hangs up, maybe before it has read anything.
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        loop {
            let unsent = || sent.as_ref().err().map(|error| unreachable(&error.to_string()));
            match self.next_answer().map_err(|failure| unsent().unwrap_or(failure))? {
                Answer::Progress { done, total } => {
                    if !watcher.progress(done, total) {
                        self.hang_up();
                    }
                }
                Answer::Failed(failure) => return Err(failure),
                answer => return Ok(answer),
            }
        }
    }

    /// Tells the daemon to cancel, and keeps listening for its last word.
    fn hang_up(&self) {
        // A daemon that is gone cancels as well.
        let _gone_is_fine = self.stream.get_ref().shutdown(std::net::Shutdown::Write);
    }

    fn next_answer(&mut self) -> Result<Answer, Failure> {
        let mut line = String::new();
        let read = self.stream.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
        match read {
            Ok(0) => Err(unreachable("it ended before it answered")),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|error| unreachable(&format!("its answer makes no sense to this version: {error}"))),
            Err(error) => Err(unreachable(&error.to_string())),
        }
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn unreachable(why: &str) -> Failure {
    let what = "the daemon that serves the pool did not answer";
    Failure::new(Code::Unreachable, what, why, "offshoot pool status, or look at the log of offshoot serve")
}
