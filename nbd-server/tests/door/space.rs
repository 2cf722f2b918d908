//! A pool that runs full beneath its clients.

use crate::served::{MIB, POOL_BYTES, ServedPool};

const ENOSPC: u32 = 28;

#[test]
fn a_full_pool_refuses_new_blocks_and_serves_the_rest() {
    let served = ServedPool::start(&[("desk", 2 * POOL_BYTES)]);
    let mut client = served.open("desk");
    let mut written = 0;
    let error = loop {
        match client.write(0, written, &[0xaa; 1 << 20]) {
            Ok(()) => written += MIB,
            Err(errno) => break errno,
        }
        assert!(written < POOL_BYTES, "more was stored than there is");
    };
    assert_eq!(error, ENOSPC);
    assert!(written > POOL_BYTES / 2, "only {written} bytes were stored");
    client.write(0, 0, &[0xbb; 4096]).expect("an overwrite needs no block");
    assert_eq!(client.read(0, 8192), Ok([[0xbb; 4096], [0xaa; 4096]].concat()));
    client.flush().expect("flushed");
    client.trim(0, u32::try_from(written).expect("less than 4 GiB")).expect("trimmed");
    client.flush().expect("flushed");
    client.write(0, 0, &[0xcc; 1 << 20]).expect("there is space again");
    client.disconnect();
    served.end();
}
