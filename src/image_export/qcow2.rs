//! A new qcow2 image: made by qemu-img, filled by qemu-nbd, both contained; they are handed this one file to write.

use super::sink::unwritable;
use crate::contained::{Contained, END_PATIENCE, Grant, Job, Limits, path_in_child};
use crate::failure::{Code, Failure, sentence};
use crate::nbd_client::{Client, NbdError, Ticket};
use crate::rendezvous;
use serde_json::json;
use std::collections::VecDeque;
use std::fs::File;
use std::io;

/// Writes that qemu-nbd has at a time.
const DEPTH: usize = 8;
const MEMORY_BYTES: u64 = 768 << 20;
const CPU_SECONDS: u64 = 60;
const BYTES_PER_CPU_SECOND: u64 = 16 << 20;
const PACKAGE: &str = "qemu-utils";

#[derive(Debug)]
pub(super) struct Qcow2 {
    client: Client,
    child: Contained,
    writes: VecDeque<Ticket>,
}

impl Qcow2 {
    pub(super) fn create(file: &File, size: u64, what: &str) -> Result<Self, Failure> {
        let files = [(file, Grant::Write)];
        let limits = Limits {
            memory_bytes: MEMORY_BYTES,
            cpu_seconds: CPU_SECONDS + size / BYTES_PER_CPU_SECOND,
            file_bytes: None,
        };
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
        let node =
            json!({ "driver": "qcow2", "file": { "driver": "file", "filename": path_in_child(0) } });
        // The file is made durable here, once it is whole.
        let arguments = vec!["--shared=1".to_owned(), "--cache=unsafe".to_owned(), format!("json:{node}")];
        let fill = Job { program: "qemu-nbd", package: PACKAGE, arguments, files: &files, limits, socket: Some(socket) };
        let child = Contained::start(fill, what)?;
        match Client::open(stream) {
            Ok(client) => Ok(Self { client, child, writes: VecDeque::new() }),
            Err(NbdError::Ended) => Err(failed("qemu-nbd", &child.abort(), what)),
            Err(error) => Err(failed("qemu-nbd", &sentence(&error), what)),
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
        self.child.finish(&[0], END_PATIENCE).map_err(|why| failed("qemu-nbd", &why, what))
    }
}

fn explain(error: &NbdError, what: &str) -> Failure {
    match error {
        NbdError::Refused { number, .. } => match i32::try_from(*number) {
            Ok(number) => unwritable(&io::Error::from_raw_os_error(number), what),
            Err(_) => failed("qemu-nbd", &sentence(error), what),
        },
        other => failed("qemu-nbd", &sentence(other), what),
    }
}

fn failed(program: &str, why: &str, what: &str) -> Failure {
    let why = format!("{program}, confined, did not write the image: {why}");
    Failure::new(Code::Failed, what, why, "--format raw, then qemu-img convert")
}
