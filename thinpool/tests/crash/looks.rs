//! What recoveries looked at, as a tree of questions: which page comes next depends on what the pages before it held.
//!
//! Opening and checking a pool is a function of the pages it reads. A disk that gives the same answers to the same
//! questions as one that was tried before would be the same trial, so it is not made again.

use blockstore::simulated::SimulatedDisk;
use std::collections::HashMap;

/// All trials of one promise.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// The page that is read next, by the number of the place in the tree; `None` where a trial ended.
    questions: Vec<Option<u64>>,
    /// From a place and an answer to the next place.
    answers: HashMap<(usize, u128), usize>,
}

impl Looks {
    pub(crate) fn knows(&self, disk: &SimulatedDisk) -> bool {
        let mut place = 0;
        loop {
            let Some(question) = self.questions.get(place) else { return false };
            let Some(page) = question else { return true };
            match self.answers.get(&(place, disk.page_hash(*page))) {
                Some(next) => place = *next,
                None => return false,
            }
        }
    }

    /// The pages a trial read, in order, and what they held.
    pub(crate) fn learn(&mut self, read: &[(u64, u128)]) {
        if self.questions.is_empty() {
            self.questions.push(None);
        }
        let mut place = 0;
        for (page, hash) in read {
            self.questions[place] = Some(*page);
            let next = self.questions.len();
            place = *self.answers.entry((place, *hash)).or_insert(next);
            if place == next {
                self.questions.push(None);
            }
        }
    }
}

#[test]
fn only_a_disk_that_differs_where_somebody_looked_is_new() {
    let mut disk = SimulatedDisk::new(16 * 4096);
    disk.write(3 * 4096, &[1]);
    let mut looks = Looks::default();
    assert!(!looks.knows(&disk));
    looks.learn(&[(3, disk.page_hash(3)), (5, 0)]);
    disk.write(7 * 4096, &[1]);
    assert!(looks.knows(&disk), "nobody looked at page 7");
    disk.write(5 * 4096, &[1]);
    assert!(!looks.knows(&disk));
    looks.learn(&[(3, disk.page_hash(3)), (5, disk.page_hash(5)), (7, disk.page_hash(7))]);
    assert!(looks.knows(&disk));
}
