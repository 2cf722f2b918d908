//! A device whose medium is memory already: the file is mapped, and a transfer is a copy.
//!
//! A touch of a page that the file system has no room for is not an error but a signal that ends the process. So the
//! map is touched only where a page is known to have its place: where data was at the opening, and where this device
//! has since written by system call. Everything else goes by system call and can fail in peace (B7).
//! Discards and resizes, which take places away, have the medium to themselves.

mod map;
mod places;

use crate::error::{DeviceError, IoError};
use crate::file::{FileMedium, MediumKind};
use crate::immediate::{Batch, Perform};
use crate::legality::{self, Geometry, bytes, memory};
use crate::open::Access;
use crate::operation::{Durability, Operation, OperationKind};
use map::Map;
use parking_lot::RwLock;
use places::Places;
use std::io;
use std::sync::Arc;

pub(crate) struct MappedMedium {
    file: Arc<FileMedium>,
    view: RwLock<View>,
}

/// What changes when the device changes its size.
struct View {
    map: Map,
    places: Places,
}

impl MappedMedium {
    pub(crate) fn new(file: Arc<FileMedium>) -> Result<Self, DeviceError> {
        if file.transfer().medium == MediumKind::Disk {
            return Err(DeviceError::NotMemory(file.path().to_owned()));
        }
        let view = View::new(&file).map_err(|source| DeviceError::System {
            doing: "mapping",
            path: file.path().to_owned(),
            source,
        })?;
        Ok(Self { file, view: RwLock::new(view) })
    }

    /// A copy, if the whole range has its place.
    fn copy(&self, view: &View, batch: &mut Batch, operation: &mut Operation) -> Option<Result<(), IoError>> {
        let length = &mut batch.length;
        let mut check_length = || *length.get_or_insert_with(|| self.file.check_length());
        match operation {
            Operation::Read { offset, buffer } if view.places.has(*offset, bytes(buffer.len())) => {
                Some(check_length().map(|()| view.map.load(memory(*offset), buffer)))
            }
            Operation::Write { offset, buffer, durability }
                if view.places.has(*offset, bytes(buffer.len())) && *durability == Durability::Cached =>
            {
                Some(check_length().map(|()| view.map.store(memory(*offset), buffer)))
            }
            _ => None,
        }
    }

    fn with_others(&self, batch: &mut Batch, operation: &mut Operation) -> Result<(), IoError> {
        let view = self.view.read();
        // A resize may have come between the first look and this lock.
        legality::check(operation, &self.file.geometry())?;
        if let Some(result) = self.copy(&view, batch, operation) {
            return result;
        }
        *batch = Batch::default();
        self.file.perform(operation)?;
        match operation {
            Operation::Write { offset, buffer, .. } => view.places.add(*offset, bytes(buffer.len())),
            Operation::WriteZeroes { offset, length } => view.places.add(*offset, *length),
            // What is only allocated has a place, but its pages are not filled: a touch would have the kernel clear one
            // that the first write fills as a whole.
            _ => {}
        }
        Ok(())
    }

    fn alone(&self, operation: &mut Operation) -> Result<(), IoError> {
        let mut view = self.view.write();
        legality::check(operation, &self.file.geometry())?;
        match operation {
            Operation::Discard { offset, length } => {
                view.places.remove(*offset, *length);
                self.file.perform(operation)
            }
            _ => {
                let result = self.file.perform(operation);
                *view = View::new(&self.file)?;
                result
            }
        }
    }
}

impl Perform for MappedMedium {
    fn geometry(&self) -> Geometry {
        self.file.geometry()
    }

    fn perform(&self, operation: &mut Operation) -> Result<(), IoError> {
        self.perform_in(&mut Batch::default(), operation)
    }

    fn foresee(&self, next: &Operation) {
        if let Operation::Read { offset, buffer } | Operation::Write { offset, buffer, .. } = next {
            self.view.read().map.prefetch(*offset, buffer.len());
        }
    }

    fn perform_in(&self, batch: &mut Batch, operation: &mut Operation) -> Result<(), IoError> {
        match operation.kind() {
            OperationKind::Discard | OperationKind::Resize => {
                *batch = Batch::default();
                self.alone(operation)
            }
            _ => self.with_others(batch, operation),
        }
    }
}

impl View {
    fn new(file: &FileMedium) -> io::Result<Self> {
        let size = file.geometry().size;
        let map = match file.access() {
            Access::ReadOnly => Map::read_only(file.file(), memory(size))?,
            Access::ReadWrite => Map::read_write(file.file(), memory(size))?,
        };
        Ok(Self { map, places: Places::find(file.file(), size)? })
    }
}
