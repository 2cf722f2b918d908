//! Opens what a crash has left and holds it to what was promised.

use crate::cases::Case;
use crate::chance::Chance;
use crate::model::{Expectation, Kind, Loss, PoolModel};
use crate::pool::{self, Running};
use crate::recorder::{Moment, Phase, Recorder};
use crate::stamp::{SECTORS_PER_BLOCK, Seen, Value, bytes};
use blockstore::simulated::{Choice, CrashPoint, Profile, ReadLog, SimulatedDevice, SimulatedDisk};
use blockstore::{Buffer, Durability};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use thinpool::{Access, Action, Command, Entry, EntryKind, RequestError, Tail, TailImage};

/// What a crash has left.
pub(crate) struct Remains {
    device: Left,
    /// `None` after a power cut.
    pub(crate) tail: Option<TailImage>,
    tail_hash: Option<u64>,
    /// After a power cut: what the tail had held. It counts for nothing any more.
    stale_tail: Option<TailImage>,
    pub(crate) loss: Loss,
    pub(crate) expectation: Arc<Expectation>,
    pub(crate) boot_id: [u8; 16],
    /// There is something to replay that may be nowhere else.
    tail_records: bool,
}

enum Left {
    /// After a power cut.
    Disk(SimulatedDisk),
    /// After a kill: what was not flushed can still be lost.
    Pending { point: CrashPoint, choice: Choice },
}

/// What came of an opening that kept every promise.
pub(crate) struct Verdict {
    /// What recovery, the check and the readers of all volumes read.
    pub(crate) reads: ReadLog,
    /// Moments of the recovery, if they were asked for.
    pub(crate) moments: Vec<Moment>,
    pub(crate) boot_id: [u8; 16],
}

/// Whether the moments of a recovery are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    Recovery,
    Nothing,
}

impl Remains {
    pub(crate) fn of(moment: &Moment, case: &Case, boot_id: [u8; 16], loss_before: Loss) -> Self {
        let tail = (case.loss == Loss::Process).then(|| moment.tail.clone());
        let voided = |image| Tail::from_image(image).is_ok_and(|tail| tail.read().voided);
        let gone = moment.expectation.faulty && tail.as_ref().is_some_and(voided);
        let loss = if gone { Loss::Power } else { case.loss.max(loss_before) };
        let device = match case.loss {
            Loss::Power => Left::Disk(moment.point.power_cut(&case.choice)),
            Loss::Process => Left::Pending { point: moment.point.clone(), choice: case.choice.clone() },
        };
        Self {
            device,
            tail_hash: tail.as_ref().map(|_| moment.tail_hash),
            tail,
            stale_tail: (case.loss == Loss::Power && moment.tail_records).then(|| moment.tail.clone()),
            loss,
            expectation: moment.expectation.clone(),
            boot_id,
            tail_records: case.loss == Loss::Process && moment.tail_records,
        }
    }

    /// The tail, and what it is held to.
    pub(crate) fn promise(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.tail_hash, self.loss, self.expectation.hash).hash(&mut hasher);
        hasher.finish()
    }

    /// What an opening sees.
    pub(crate) fn disk(&self) -> SimulatedDisk {
        match &self.device {
            Left::Disk(disk) => disk.clone(),
            Left::Pending { point, choice } => point.kill(choice),
        }
    }

    fn device(&self, seed: u64) -> SimulatedDevice {
        match &self.device {
            Left::Disk(disk) => SimulatedDevice::new(disk.clone(), Profile::default(), seed),
            Left::Pending { point, choice } => {
                SimulatedDevice::after_kill(point, choice, Profile::default(), seed)
            }
        }
    }
}

/// One power cut in so many is followed by an opening with the tail of before.
const STALE_IN: usize = 8;
/// One opening in so many is closed cleanly.
const CLOSED_IN: usize = 16;

/// Opens, checks and reads everything. A pool whose recovery read what none before it had read (`is_new`), of the device
/// and of the tail, is used as well.
pub(crate) fn judge(
    remains: &Remains,
    watch: Watch,
    is_new: impl FnOnce(&ReadLog) -> bool,
    chance: &mut Chance,
) -> Result<Verdict, String> {
    let device = remains.device(chance.next());
    let (tail, boot_id) = match &remains.tail {
        Some(image) => (Tail::from_image(image).map_err(|error| error.to_string())?, remains.boot_id),
        None => (pool::new_tail(), chance.id()),
    };
    let recorder = Recorder::new(tail.clone(), remains.expectation.clone(), pool::journal());
    recorder.phase(Phase::Recovery, true);
    if remains.tail_records {
        recorder.phase(Phase::TailReplay, true);
    }
    if watch == Watch::Recovery {
        let observer = recorder.clone();
        device.observe(move |point| observer.observe(point));
    }
    device.log_reads();
    let mut running = Running::open(&device, tail, pool::opening(boot_id, chance))?;
    device.stop_observing();
    let moments = recorder.take();
    let recovery = device.reads();
    if let Some(errors) = running.check() {
        return Err(errors);
    }
    let found = find(&mut running)?;
    let reads = device.reads();
    compare(&found, remains)?;
    // What others have met must not decide what chance brings below.
    let mut use_chance = Chance::new(chance.next());
    let stale = remains.stale_tail.as_ref().filter(|_| chance.one_in(STALE_IN));
    if is_new(&recovery) || stale.is_some() {
        use_again(&mut running, &found, &mut use_chance)?;
    }
    if let Some(stale) = stale {
        open_with_stale_tail(running, &device, stale, chance)?;
    } else if chance.one_in(CLOSED_IN) {
        running.command(Command::Close).map_err(|error| format!("closing after recovery: {error}"))?;
    }
    Ok(Verdict { reads, moments, boot_id })
}

/// The pool was carried to another machine, used there, and comes back: the tail it left behind is not its own.
fn open_with_stale_tail(
    mut running: Running,
    device: &SimulatedDevice,
    stale: &TailImage,
    chance: &mut Chance,
) -> Result<(), String> {
    let before = find(&mut running)?;
    let disk = device.disk();
    drop(running);
    let device = SimulatedDevice::new(disk, Profile::default(), chance.next());
    let tail = Tail::from_image(stale).map_err(|error| error.to_string())?;
    let mut running = Running::open(&device, tail, pool::opening(chance.id(), chance))?;
    if find(&mut running)? != before {
        return Err("a tail that another opening has left was replayed".to_owned());
    }
    running.check().map_or(Ok(()), |errors| Err(format!("with a stale tail: {errors}")))
}

pub(crate) type Contents = (Kind, Vec<Seen>);
pub(crate) type Found = BTreeMap<String, Contents>;

/// Everything that has a name, and what it shows.
pub(crate) fn find(running: &mut Running) -> Result<Found, String> {
    let mut found = Found::new();
    for entry in running.pool.entries() {
        found.insert(entry.name.to_string(), contents(running, &entry)?);
    }
    Ok(found)
}

/// What one name shows.
pub(crate) fn contents(running: &mut Running, entry: &Entry) -> Result<Contents, String> {
    let kind = match entry.kind {
        EntryKind::Volume => Kind::Volume,
        EntryKind::Snapshot => Kind::Snapshot,
        EntryKind::Version => Kind::Version,
    };
    let attachment = running.attach(&entry.name.to_string(), Access::ReadOnly)?;
    let seen = running.read_all(&attachment);
    let seen = seen.map_err(|error| format!("{} cannot be read: {error}", entry.name))?;
    Ok((kind, seen))
}

/// One of the alternatives must hold, whole.
fn compare(found: &Found, remains: &Remains) -> Result<(), String> {
    let mut reasons = Vec::new();
    for model in &remains.expectation.alternatives {
        match refuted(found, model, remains.loss) {
            None => return Ok(()),
            Some(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; or "))
}

fn refuted(found: &Found, model: &PoolModel, loss: Loss) -> Option<String> {
    let expected: Vec<_> = model.disks.iter().map(|(name, disk)| (name, disk.kind, disk.sectors())).collect();
    let there: Vec<_> = found.iter().map(|(name, (kind, seen))| (name, *kind, seen.len())).collect();
    if expected != there {
        return Some(format!("found {there:?}, expected {expected:?}"));
    }
    let wrong = |(name, disk): (&String, &crate::model::Disk)| {
        disk.refuted(&found[name].1, loss).map(|reason| format!("{name}: {reason}"))
    };
    model.disks.iter().find_map(wrong)
}

/// A pool that was recovered works: every volume takes a write and a flush, everything else still shows what it
/// showed, and the pool is in order.
fn use_again(running: &mut Running, found: &Found, chance: &mut Chance) -> Result<(), String> {
    let mut expected = found.clone();
    for (name, (_, seen)) in expected.iter_mut().filter(|(_, (kind, _))| *kind == Kind::Volume) {
        let attachment = running.attach(name, Access::ReadWrite)?;
        let first = chance.below(seen.len() / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK;
        let value = Value::written(chance.next() >> 16);
        let action = Action::Write {
            offset: u64::try_from(first * crate::stamp::SECTOR).expect("small"),
            buffer: Buffer::from_slice(&bytes(value, first, SECTORS_PER_BLOCK)),
            durability: Durability::Cached,
        };
        match running.request(&attachment, action) {
            Ok(_) => {
                let stamps = (first..first + SECTORS_PER_BLOCK)
                    .map(|at| Seen::Stamp { value, lba: u64::try_from(at).expect("small") });
                seen.splice(first..first + SECTORS_PER_BLOCK, stamps);
            }
            // A full pool stays full.
            Err(RequestError::OutOfSpace) => {}
            Err(error) => return Err(format!("a write to {name} after recovery: {error}")),
        }
        let flushed = running.request(&attachment, Action::Flush);
        flushed.map_err(|error| format!("a flush of {name} after recovery: {error}"))?;
    }
    let again = find(running)?;
    if let Some((name, _)) = again.iter().find(|(name, contents)| expected.get(*name) != Some(contents)) {
        return Err(format!("{name} changed when a volume was written after recovery"));
    }
    running.check().map_or(Ok(()), |errors| Err(format!("after a write and a flush: {errors}")))
}
