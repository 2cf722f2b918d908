//! All devices of a pool, found from its first: by what the operator says, where they were last seen, or beside the first.
//! A device is known by its label; a path is only where it is looked for.

use crate::explain;
use crate::failure::{Code, Failure, sentence};
use crate::output::say;
use crate::pool_file;
use crate::random;
use blockstore::{Access, Device, Engine};
use cow_tree::units::{BLOCK_BYTES, PoolId};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thinpool::{DeviceId, Label, LabelError, Member, MemberError, NewDevice, Roster};

/// Open and locked, in their order.
#[derive(Debug)]
pub(crate) struct PoolDevices {
    pub(crate) all: Vec<Arc<dyn Device>>,
    /// Where the first is, for people.
    pub(crate) name: String,
    pool: PoolId,
    /// Where the others are, from device 1 on.
    further: Vec<PathBuf>,
    pub(crate) joining: Option<NewDevice>,
}

/// Where the operator looks for a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whereabouts<'a> {
    /// The first device.
    pub(crate) first: &'a Path,
    /// Others, in any order, where they are not where they were.
    pub(crate) others: &'a [PathBuf],
}

/// Opens and locks every device of a pool.
pub(crate) fn open(places: Whereabouts<'_>, access: Access, engine: Engine) -> Result<PoolDevices, Failure> {
    let what = format!("the pool {} was not opened", places.first.display());
    let first = pool_file::open(places.first, access, engine)?;
    let roster = thinpool::roster(&first).map_err(|error| explain::engine(what.clone(), &error))?;
    let given = sort_given(places.others, &roster, &what)?;
    let mut further = Vec::new();
    for member in &roster.further {
        further.push(absolute(&find(member, &given, places.first, roster.pool, &what)?));
    }
    let mut all = vec![first];
    for path in &further {
        all.push(pool_file::open(path, access, engine)?);
    }
    let name = places.first.display().to_string();
    Ok(PoolDevices { all, name, pool: roster.pool, further, joining: None })
}

impl PoolDevices {
    /// The device becomes one of the pool when the pool is opened.
    pub(crate) fn join(&mut self, path: &Path, device: Arc<dyn Device>, what: &str) -> Result<(), Failure> {
        self.joining = Some(NewDevice { device, id: DeviceId(random::identity(what)?) });
        self.further.push(absolute(path));
        Ok(())
    }

    /// Writes down where they are. What a failure costs is that the operator has to say it the next time.
    pub(crate) fn remember(first: &Arc<dyn Device>, pool: PoolId, further: &[PathBuf]) {
        if further.is_empty() {
            return;
        }
        let paths: Vec<PathBuf> = further.iter().map(|path| absolute(path)).collect();
        if let Err(error) = thinpool::remember_paths(first.as_ref(), pool, &paths) {
            say(&format!("note: it was not written down where the pool's devices are: {}", sentence(&error)));
        }
    }

    pub(crate) fn remember_all(&self) {
        Self::remember(&self.all[0], self.pool, &self.further);
    }
}

fn absolute(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// What a device's first block is as a label; the device may be in use by others.
pub(crate) fn first_block(path: &Path) -> io::Result<Result<Label, LabelError>> {
    let mut block = vec![0; BLOCK_BYTES];
    File::open(path)?.read_exact(&mut block)?;
    Ok(Label::parse(&block))
}

/// The label in a device's first block, or what is there instead.
fn read_label(path: &Path) -> Result<Label, String> {
    match first_block(path) {
        Ok(label) => label.map_err(|error| sentence(&error)),
        Err(error) => Err(error.to_string()),
    }
}

/// The paths the operator gave, by the index of the device that is there.
fn sort_given(given: &[PathBuf], roster: &Roster, what: &str) -> Result<BTreeMap<usize, PathBuf>, Failure> {
    let mut sorted = BTreeMap::new();
    for path in given {
        let refused = |why: String| {
            let next = "--device with paths of this pool's devices after the first, each once";
            Failure::new(Code::Usage, what, why, next)
        };
        let label = read_label(path).map_err(|why| refused(format!("{}: {why}", path.display())))?;
        let index = usize::from(label.device_index);
        if label.pool != roster.pool {
            let why = format!("{} is device {index} of another pool, {}", path.display(), label.name);
            return Err(refused(why));
        }
        let Some(member) = index.checked_sub(1).and_then(|place| roster.further.get(place)) else {
            let count = roster.further.len() + 1;
            let why = format!("{} is device {index} of the pool, which has {count}", path.display());
            return Err(refused(format!("{why}, from 0 on, and the first is given by --pool")));
        };
        if label.device_id != member.id {
            return Err(refused(other(path, member, &format!("its id is {}", label.device_id))));
        }
        if let Some(twice) = sorted.insert(index, path.clone()) {
            let both = format!("{} and {}", twice.display(), path.display());
            return Err(refused(format!("{both} are both {member}: one is a copy")));
        }
    }
    Ok(sorted)
}

fn other(path: &Path, member: &Member, why: &str) -> String {
    let given = path.display().to_string();
    MemberError::Other { given, member: member.clone(), why: why.to_owned() }.to_string()
}

/// Where a device is.
fn find(
    member: &Member,
    given: &BTreeMap<usize, PathBuf>,
    first: &Path,
    pool: PoolId,
    what: &str,
) -> Result<PathBuf, Failure> {
    if let Some(path) = given.get(&member.index) {
        return Ok(path.clone());
    }
    let is_it = |path: &PathBuf| {
        let label = read_label(path);
        label.is_ok_and(|label| label.pool == pool && label.device_id == member.id)
    };
    let beside = |path: &PathBuf| path.file_name().map(|name| first.with_file_name(name));
    let places = member.path.iter().cloned().chain(member.path.as_ref().and_then(beside));
    let mut places = places.filter(|path| path.exists());
    let found = places.find(is_it);
    found.ok_or_else(|| missing(member, what))
}

fn missing(member: &Member, what: &str) -> Failure {
    let mut why = MemberError::Missing { member: member.clone() }.to_string();
    if let Some(path) = member.path.as_ref().filter(|path| path.exists()) {
        let found = match read_label(path) {
            Ok(label) => format!(
                "device {} of the pool {} with id {}",
                label.device_index, label.name, label.device_id
            ),
            Err(why) => why,
        };
        why.push_str(&format!(", where now there is something else: {found}"));
    }
    let next = format!("--device with the path where device {} is now, or bring it back", member.index);
    Failure::new(Code::NotFound, what, why, next)
}
