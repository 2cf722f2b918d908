//! `offshoot pool ls`: the pools whose names are known here, and how each is.

use super::pool_status::state;
use crate::alert::{alerts, data_percent};
use crate::arguments::View;
use crate::failure::Failure;
use crate::list::{Column, Shown, column, extra, print_list};
use crate::pool_choice::PoolChoice;
use crate::reach::{LOOK, Reach};
use crate::registry::Registry;
use serde::Serialize;
use std::path::Path;

const COLUMNS: [Column; 12] = [
    column("pool", "POOL", Shown::Text),
    column("state", "STATE", Shown::Text),
    column("size", ">SIZE", Shown::Size),
    column("mapped", ">MAPPED", Shown::Size),
    column("free", ">FREE", Shown::Size),
    column("used_percent", ">USED %", Shown::Text),
    column("provisioned", ">PROVISIONED", Shown::Size),
    column("overcommit", ">OVERCOMMIT", Shown::Ratio),
    column("alerts", ">ALERTS", Shown::Text),
    column("served", "SERVED", Shown::Flag),
    column("path", "PATH", Shown::Text),
    extra("why", "WHY", Shown::Text),
];

#[derive(Debug, Serialize)]
struct Item {
    pool: String,
    path: String,
    /// Normal, warning, critical or failed; unreachable where it cannot be opened.
    state: &'static str,
    size: Option<u64>,
    mapped: Option<u64>,
    free: Option<u64>,
    used_percent: Option<u64>,
    provisioned: Option<u64>,
    overcommit: Option<f64>,
    alerts: Option<usize>,
    served: bool,
    why: Option<String>,
}

pub(super) fn run(pool: &PoolChoice, view: &View) -> Result<(), Failure> {
    let all = Registry::open()?.all();
    let items: Vec<Item> = all.into_iter().map(|(name, path)| look(pool, name, &path)).collect();
    print_list("PoolList", &COLUMNS, &items, view)
}

fn look(pool: &PoolChoice, name: String, path: &Path) -> Item {
    let seen = PoolChoice::new(Some(path.to_owned()), None, pool.engine)
        .with(LOOK, |reach: &mut Reach| Ok((reach.status()?, reach.daemon().is_some())));
    match seen {
        Ok((status, served)) => {
            let alerts = alerts(&status);
            Item {
                pool: name,
                path: path.display().to_string(),
                state: state(&status, &alerts),
                size: Some(status.capacity),
                mapped: Some(status.mapped),
                free: Some(status.free),
                used_percent: Some(data_percent(&status)),
                provisioned: Some(status.provisioned),
                overcommit: Some(status.overcommit),
                alerts: Some(alerts.len()),
                served,
                why: None,
            }
        }
        Err(failure) => Item {
            pool: name,
            path: path.display().to_string(),
            state: "unreachable",
            size: None,
            mapped: None,
            free: None,
            used_percent: None,
            provisioned: None,
            overcommit: None,
            alerts: None,
            served: false,
            why: Some(failure.why),
        },
    }
}
