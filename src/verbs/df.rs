//! `offshoot df`: where the space of a pool is. The figures are sums, none is an estimate.

use super::pool_status::state;
use crate::alert::{alerts, data_percent, percent};
use crate::arguments::View;
use crate::failure::Failure;
use crate::list::{Column, Shown, column, extra, print_list};
use crate::output::{Format, print_json};
use crate::pool_choice::PoolChoice;
use crate::reach::{LOOK, Reach};
use crate::wire::StatusView;
use serde::Serialize;

const COLUMNS: [Column; 13] = [
    column("pool", "POOL", Shown::Text),
    column("state", "STATE", Shown::Text),
    column("capacity", ">CAPACITY", Shown::Size),
    column("provisioned", ">PROVISIONED", Shown::Size),
    column("mapped", ">MAPPED", Shown::Size),
    column("reserved", ">RESERVED", Shown::Size),
    column("quarantined", ">QUARANTINED", Shown::Size),
    column("free", ">FREE", Shown::Size),
    column("used", ">USED", Shown::Text),
    column("metadata_used", ">METADATA", Shown::Size),
    column("metadata_percent", ">USED", Shown::Text),
    column("overcommit", ">OVERCOMMIT", Shown::Ratio),
    extra("kept", ">KEPT", Shown::Size),
];

#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    status: &'a StatusView,
    /// Normal, warning, critical or failed, by the pool's thresholds.
    state: &'static str,
    used: String,
    metadata_percent: String,
}

pub(super) fn run(pool: &PoolChoice, view: &View) -> Result<(), Failure> {
    let status = pool.with(LOOK, Reach::status)?;
    if view.output == Format::Json {
        return print_json("Space", &status);
    }
    let item = Item {
        status: &status,
        state: state(&status, &alerts(&status)),
        used: format!("{} %", data_percent(&status)),
        metadata_percent: format!("{} %", percent(status.metadata_used, status.metadata_free)),
    };
    print_list("SpaceList", &COLUMNS, &[item], view)
}
