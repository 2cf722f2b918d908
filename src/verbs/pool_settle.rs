//! `offshoot pool settle`: removing is quick, freeing happens behind it; this waits for its end.

use crate::failure::Failure;
use crate::reach::{CHANGE, PoolChoice};
use crate::wire::Ask;

pub(super) fn run(pool: &PoolChoice) -> Result<(), Failure> {
    pool.with(CHANGE, |reach| reach.ask(Ask::Settle)).map(drop)
}
