//! What a command of the operator's would change, as one record: planned from the catalog, which stays as it is but for the
//! numbers it hands out.

use crate::catalog::{Catalog, CatalogEntry};
use crate::command::{Command, EntryKind};
use crate::core::Core;
use crate::error::Error;
use crate::ids::{EntryId, LayerId};
use crate::name::Name;
use crate::record::{NewClone, NewEntry, NewSnapshot, Record, legal_size};
use crate::recovery::metadata_required_of;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

const BLOCK: u64 = 4096;
/// Keys and values of the properties of one name, or of the pool, together.
const PROPERTY_BYTES_MAX: usize = 16 << 10;
/// What the catalog writes for one new name and its layer, at most on average.
const NAME_BYTES_ON_DISK: u64 = 1024;
/// Nodes on the way to a catalog leaf, and of the group table.
const NAME_NODES: u64 = 8;

/// Turns a command that needs no waiting into its record, or says why not.
pub(super) fn plan(core: &Core, catalog: &mut Catalog, command: &Command) -> Result<Record, Error> {
    match command {
        Command::CreateVolume { name, size } => {
            vacant(catalog, name, Point::No)?;
            core.admit_names(1)?;
            let entry = new_entry(core, catalog, name, legal_size(*size)?);
            let (layer, line) = catalog.take_layer();
            Ok(Record::Create { entry, layer: layer.0, line })
        }
        Command::Clone { source, names, size } => plan_clone(core, catalog, source, names, *size),
        Command::Remove { name, recursive } => plan_remove(catalog, name, *recursive),
        Command::Rollback { to } => plan_rollback(catalog, to),
        Command::Publish { volume, version } => plan_publish(catalog, volume, version),
        Command::Rename { from, to } => {
            let (id, entry) = existing(catalog, from)?;
            vacant(catalog, to, if from.point().is_some() { Point::Yes } else { Point::No })?;
            if entry.kind == EntryKind::Version && catalog.find(to.base()).is_some() {
                return Err(Error::Exists(format!("a volume named {}", to.base())));
            }
            if from.point().is_some() && from.base() != to.base() && entry.kind == EntryKind::Snapshot {
                return Err(Error::Invalid(
                    "a snapshot keeps the name of its volume before the '@'".to_owned(),
                ));
            }
            if from.point().is_none() && !catalog.points_of(from.base()).is_empty() {
                return Err(busy(from, "it has snapshots, which are named after it"));
            }
            Ok(Record::Rename { entry: id.0, name: to.to_string() })
        }
        Command::SetPoolProperty { key, value } => {
            plan_property(EntryId::POOL, catalog.properties(), key, value.as_deref())
        }
        _ => Err(Error::Invalid("this command is not a change of the catalog".to_owned())),
    }
}

pub(super) fn plan_property_of(
    catalog: &Catalog,
    name: &Name,
    key: &str,
    value: Option<&str>,
) -> Result<Record, Error> {
    let (id, entry) = existing(catalog, name)?;
    plan_property(id, &entry.properties, key, value)
}

fn plan_property(
    id: EntryId,
    present: &BTreeMap<String, String>,
    key: &str,
    value: Option<&str>,
) -> Result<Record, Error> {
    let others = present.iter().filter(|(other, _)| *other != key);
    let length = others.map(|(key, value)| key.len() + value.len()).sum::<usize>()
        + key.len()
        + value.map_or(0, str::len);
    if key.is_empty() || length > PROPERTY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(Error::Invalid(format!(
            "a property has a printable key, and all properties of a name {PROPERTY_BYTES_MAX} bytes at most"
        )));
    }
    Ok(Record::SetProperty { entry: id.0, key: key.to_owned(), value: value.map(str::to_owned) })
}

fn plan_clone(
    core: &Core,
    catalog: &mut Catalog,
    source: &Name,
    names: &[Name],
    size: Option<u64>,
) -> Result<Record, Error> {
    let (_, from) = existing(catalog, source)?;
    if from.kind == EntryKind::Volume {
        return Err(Error::Invalid(format!(
            "{source} is a volume, which changes; clones are made from a snapshot or an image version"
        )));
    }
    let (layer, from_size) = (from.layer, from.size);
    let size = legal_size(size.unwrap_or(from_size))?;
    if size < from_size {
        return Err(Error::Invalid(format!(
            "a clone of {source} has {from_size} bytes at least; {size} would cut its end off"
        )));
    }
    let mut seen = BTreeSet::new();
    for name in names {
        vacant(catalog, name, Point::No)?;
        if !seen.insert(name) {
            return Err(Error::Exists(name.to_string()));
        }
    }
    core.admit_names(names.len())?;
    let mut clones = Vec::with_capacity(names.len());
    for name in names {
        let entry = new_entry(core, catalog, name, size);
        let (id, line) = catalog.take_layer();
        clones.push(NewClone { entry, origin: source.to_string(), layer: id.0, line });
    }
    Ok(Record::Clone { source: layer.0, clones })
}

fn plan_remove(catalog: &Catalog, name: &Name, recursive: bool) -> Result<Record, Error> {
    let (id, entry) = existing(catalog, name)?;
    let mut doomed = vec![id];
    if entry.kind == EntryKind::Volume {
        if is_open(catalog, entry) {
            return Err(busy(name, "it is open; close its exports first"));
        }
        let points = catalog.points_of(name.base());
        if !points.is_empty() && !recursive {
            return Err(busy(name, &format!("it has {} snapshots", points.len())));
        }
        doomed.extend(points);
    }
    Ok(Record::Remove { entries: doomed.into_iter().map(|id| id.0).collect() })
}

pub(super) fn plan_snapshot(core: &Core, catalog: &mut Catalog, names: &[Name]) -> Result<Record, Error> {
    core.admit_names(names.len())?;
    let mut items = Vec::new();
    for name in names {
        let (volume, entry) = volume(catalog, &base_of(name))?;
        let size = entry.size;
        let layer = catalog.take_successor();
        items.push(NewSnapshot {
            volume: volume.0,
            entry: new_entry(core, catalog, name, size),
            layer: layer.0,
        });
    }
    Ok(Record::Snapshot { items })
}

fn plan_rollback(catalog: &mut Catalog, to: &Name) -> Result<Record, Error> {
    let (_, point) = existing(catalog, to)?;
    if point.kind != EntryKind::Snapshot {
        return Err(Error::Invalid(format!("{to} is not a snapshot")));
    }
    let (source, size) = (point.layer, point.size);
    let base = base_of(to);
    let (id, entry) = volume(catalog, &base)?;
    if is_open(catalog, entry) {
        return Err(busy(&base, "it is open, and its guest would not survive another disk beneath it"));
    }
    if entry.size != size {
        return Err(Error::Invalid(format!(
            "{base} has been resized since {to}; give it {size} bytes again first"
        )));
    }
    let (layer, line) = catalog.take_layer();
    Ok(Record::Rollback { entry: id.0, source: source.0, layer: layer.0, line })
}

fn plan_publish(catalog: &Catalog, name: &Name, version: &Name) -> Result<Record, Error> {
    let (id, entry) = volume(catalog, name)?;
    if is_open(catalog, entry) {
        return Err(busy(name, "it is open; an image version never changes"));
    }
    if !catalog.points_of(name.base()).is_empty() {
        return Err(busy(name, "it has snapshots"));
    }
    vacant(catalog, version, Point::Yes)?;
    if catalog.find(version.base()).is_some() {
        return Err(Error::Exists(format!("a volume named {}", version.base())));
    }
    Ok(Record::Publish { entry: id.0, name: version.to_string() })
}

/// Whether a name must carry a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Yes,
    No,
}

pub(super) fn vacant(catalog: &Catalog, name: &Name, point: Point) -> Result<(), Error> {
    if name.point().is_some() != (point == Point::Yes) {
        let wanted = if point == Point::Yes { "name@point" } else { "a name without '@'" };
        return Err(Error::Invalid(format!("{name} is not {wanted}")));
    }
    if catalog.find(&name.to_string()).is_some() {
        return Err(Error::Exists(name.to_string()));
    }
    if point == Point::No
        && catalog.points_of(name.base()).iter().any(|id| catalog.entry(*id).kind == EntryKind::Version)
    {
        return Err(Error::Exists(format!("an image named {}", name.base())));
    }
    Ok(())
}

fn existing<'a>(catalog: &'a Catalog, name: &Name) -> Result<(EntryId, &'a CatalogEntry), Error> {
    catalog.find(&name.to_string()).ok_or_else(|| Error::NotFound(name.to_string()))
}

pub(super) fn volume<'a>(catalog: &'a Catalog, name: &Name) -> Result<(EntryId, &'a CatalogEntry), Error> {
    let (id, entry) = existing(catalog, name)?;
    if entry.kind != EntryKind::Volume {
        return Err(Error::Invalid(format!("{name} is not a volume")));
    }
    Ok((id, entry))
}

pub(super) fn base_of(name: &Name) -> Name {
    name.base().parse().expect("the base of a name is a name")
}

pub(super) fn busy(name: &Name, why: &str) -> Error {
    Error::Busy { name: name.to_string(), why: why.to_owned() }
}

/// Whether somebody has the volume open.
fn is_open(catalog: &Catalog, entry: &CatalogEntry) -> bool {
    catalog.layer(entry.layer).live().is_some_and(|live| live.is_attached())
}

fn new_entry(core: &Core, catalog: &mut Catalog, name: &Name, size: u64) -> NewEntry {
    NewEntry {
        id: catalog.take_entry().0,
        name: name.to_string(),
        size,
        created_unix: core.unix_time.load(Ordering::Relaxed),
    }
}

impl Core {
    /// Whether the metadata of so many new names and layers has room beside what must stay free (G7).
    fn admit_names(&self, count: usize) -> Result<(), Error> {
        let nodes = u64::try_from(count).expect("a length") * NAME_BYTES_ON_DISK / BLOCK + NAME_NODES;
        let required = metadata_required_of(u64::try_from(self.credits_max).expect("not negative")).0;
        let room = self.groups.lock().metadata_room().0;
        if room < required / 2 + nodes { Err(Error::OutOfSpace) } else { Ok(()) }
    }
}

impl Catalog {
    /// A layer id and a line nobody has used.
    fn take_layer(&mut self) -> (LayerId, u32) {
        let taken = (LayerId(self.next_layer), self.next_line);
        self.next_layer += 1;
        // R2: a line that came around would be mistaken for an older one.
        self.next_line = self.next_line.checked_add(1).expect("a pool has fewer than 2^32 lines");
        taken
    }

    /// A layer id for the next layer of a line that exists.
    fn take_successor(&mut self) -> LayerId {
        self.next_layer += 1;
        LayerId(self.next_layer - 1)
    }

    fn take_entry(&mut self) -> EntryId {
        self.next_entry += 1;
        EntryId(self.next_entry - 1)
    }
}
