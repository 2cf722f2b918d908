//! A read that fails leaves the memory that was lent for it as it was.

mod engine;

use blockstore::{Buffer, Completion, Device, DeviceError, IoChannel, IoError, Loan, RamDevice, Submission};
use engine::{Engine, MIB, limits, small_tail, volume};
use memmap2::{MmapMut, MmapRaw};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thinpool::{Action, CreateOptions, RequestError};

const PAGE: usize = 4096;

/// A device of whole pages that fails on demand, when it has read already.
#[derive(Debug)]
struct Failing {
    inner: RamDevice,
    fails: Arc<AtomicBool>,
}

impl Device for Failing {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn alignment(&self) -> usize {
        PAGE
    }

    fn discard_granularity(&self) -> Option<u64> {
        None
    }

    fn description(&self) -> String {
        "failing".to_owned()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        let inner = self.inner.open_channel(depth)?;
        Ok(Box::new(FailingChannel { inner, fails: self.fails.clone() }))
    }
}

struct FailingChannel {
    inner: Box<dyn IoChannel>,
    fails: Arc<AtomicBool>,
}

impl IoChannel for FailingChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        self.inner.submit(queue);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let before = done.len();
        let count = self.inner.poll(done);
        if self.fails.load(Ordering::SeqCst) {
            done[before..].iter_mut().for_each(|completion| completion.result = Err(IoError::EIO));
        }
        count
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        self.inner.wait(timeout)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

/// A page of a guest's, full of one byte, and a buffer that is its first bytes.
fn lend(length: usize) -> (Arc<MmapRaw>, Buffer) {
    let mut page = MmapMut::map_anon(PAGE).expect("memory");
    page.fill(0xee);
    let page = Arc::new(MmapRaw::from(page));
    let start = NonNull::new(page.as_mut_ptr()).expect("it is mapped");
    // SAFETY: the map exists as long as its owner, and only pointers lead to it.
    let loan = unsafe { Loan::new(start, PAGE, page.clone()) };
    (page, loan.buffer(0, length).expect("not more than a page"))
}

fn bytes_of(page: &MmapRaw) -> Vec<u8> {
    // SAFETY: the page is mapped, and nobody writes it any more.
    (0..PAGE).map(|at| unsafe { page.as_mut_ptr().wrapping_add(at).read() }).collect()
}

#[test]
fn a_part_of_a_block_that_cannot_be_read_leaves_lent_memory_as_it_was() {
    let fails = Arc::new(AtomicBool::new(false));
    let device = Arc::new(Failing { inner: RamDevice::new(64 * MIB), fails: fails.clone() });
    thinpool::create(device.clone(), &CreateOptions::default()).expect("an empty device takes a pool");
    let mut engine = Engine::open(device, small_tail(), 1, limits()).expect("a new pool opens");
    engine.must(volume("a", MIB));
    let a = engine.attach("a");
    engine.write(&a, 0, &[7; PAGE]).expect("there is space");

    let (page, buffer) = lend(512);
    engine.ask(&a, Action::Read { offset: 1024, buffer }).expect("a healthy device reads");
    let bytes = bytes_of(&page);
    assert!(bytes[..512] == [7; 512] && bytes[512..] == [0xee; PAGE - 512]);

    let (page, buffer) = lend(512);
    fails.store(true, Ordering::SeqCst);
    let failure = engine.ask(&a, Action::Read { offset: 1024, buffer }).expect_err("the device fails");
    fails.store(false, Ordering::SeqCst);
    assert_eq!(failure, RequestError::Io);
    assert!(bytes_of(&page) == [0xee; PAGE]);
}
