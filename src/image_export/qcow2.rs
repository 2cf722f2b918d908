//! A new qcow2 image: made by qemu-img, filled by qemu-storage-daemon, both contained; they are handed this one file to write.

use super::sink::unwritable;
use crate::contained::{Contained, END_PATIENCE, Grant, Job, path_in_child};
use crate::failure::{Code, Failure, sentence};
use crate::nbd_client::{Client, NbdError, Ticket};
use crate::qemu::{Access, DAEMON, PACKAGE, limits, serve_arguments};
use crate::rendezvous;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::io;

/// Writes that QEMU has at a time.
const DEPTH: usize = 8;

#[derive(Debug)]
pub(super) struct Qcow2 {
    client: Client,
    child: Contained,
    writes: VecDeque<Ticket>,
}

impl Qcow2 {
    pub(super) fn create(file: &File, size: u64, what: &str) -> Result<Self, Failure> {
        let files = [(file, Grant::Write)];
        let limits = limits(size, Access::ReadWrite);
        let create = ["create", "-q", "-f", "qcow2", &path_in_child(0), &size.to_string()];
        let make = Job {
            program: "qemu-img",
            package: PACKAGE,
            arguments: create.map(str::to_owned).to_vec(),
            files: &files,
            limits,
            socket: None,
        };
        let made = Contained::start(make, what)?.finish(&[0], END_PATIENCE);
        made.map_err(|why| failed("qemu-img", &why, what))?;
        let (socket, stream) = rendezvous::make(what)?;
        let fill = Job {
            program: DAEMON,
            package: PACKAGE,
            arguments: serve_arguments(node(), Access::ReadWrite),
            files: &files,
            limits,
            socket: Some(socket),
        };
        let child = Contained::start(fill, what)?;
        match Client::open(stream) {
            Ok(client) => Ok(Self { client, child, writes: VecDeque::new() }),
            Err(NbdError::Ended) => Err(failed(DAEMON, &child.abort(), what)),
            Err(error) => Err(failed(DAEMON, &sentence(&error), what)),
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], what: &str) -> Result<(), Failure> {
        let refused = |error| explain(&error, what);
        if self.writes.len() >= DEPTH {
            self.take_one().map_err(refused)?;
        }
        let ticket = self.client.write(offset, bytes).map_err(refused)?;
        self.writes.push_back(ticket);
        Ok(())
    }

    fn take_one(&mut self) -> Result<(), NbdError> {
        self.writes.pop_front().map_or(Ok(()), |oldest| self.client.done(&oldest))
    }

    /// The image is closed in order: its tables are with the file.
    pub(super) fn finish(mut self, what: &str) -> Result<(), Failure> {
        let refused = |error| explain(&error, what);
        while !self.writes.is_empty() {
            self.take_one().map_err(refused)?;
        }
        self.client.flush().map_err(refused)?;
        self.client.close().map_err(refused)?;
        self.child.dismiss(END_PATIENCE).map_err(|why| failed(DAEMON, &why, what))
    }
}

/// The file is made durable here, once it is whole; nothing has to be before.
fn node() -> Value {
    let cache = json!({ "no-flush": true });
    let file = json!({ "driver": "file", "filename": path_in_child(0), "cache": cache });
    json!({ "driver": "qcow2", "file": file, "cache": cache })
}

fn explain(error: &NbdError, what: &str) -> Failure {
    match error {
        NbdError::Refused { number, .. } => match i32::try_from(*number) {
            Ok(number) => unwritable(&io::Error::from_raw_os_error(number), what),
            Err(_) => failed(DAEMON, &sentence(error), what),
        },
        other => failed(DAEMON, &sentence(other), what),
    }
}

fn failed(program: &str, why: &str, what: &str) -> Failure {
    let why = format!("{program}, confined, did not write the image: {why}");
    Failure::new(Code::Failed, what, why, "--format raw, then qemu-img convert")
}
