//! `offshoot df`: where the space of a pool is. The figures are sums, none is an estimate.

use crate::alert::{data_percent, percent};
use crate::failure::Failure;
use crate::output::{Format, Style, Table, print, print_json};
use crate::reach::{LOOK, PoolChoice};

pub(super) fn run(pool: &PoolChoice, style: Style) -> Result<(), Failure> {
    let status = pool.with(LOOK, |reach| reach.status())?;
    if style.format == Format::Json {
        return print_json("Space", &status);
    }
    let mut table = Table::new(&[
        "POOL",
        ">CAPACITY",
        ">PROVISIONED",
        ">MAPPED",
        ">RESERVED",
        ">QUARANTINED",
        ">FREE",
        ">USED",
        ">METADATA",
        ">USED",
        ">OVERCOMMIT",
    ]);
    table.row(vec![
        status.pool.clone(),
        style.size(status.capacity),
        style.size(status.provisioned),
        style.size(status.mapped),
        style.size(status.reserved),
        style.size(status.quarantined),
        style.size(status.free),
        format!("{} %", data_percent(&status)),
        style.size(status.metadata_used),
        format!("{} %", percent(status.metadata_used, status.metadata_free)),
        format!("{:.1}x", status.overcommit),
    ]);
    print(&table.render())
}
