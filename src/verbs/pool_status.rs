//! `offshoot pool status`: figures, state and alerts of a pool.

use crate::alert::{Alert, Level, alerts, data_percent, percent};
use crate::arguments::PoolStatusArguments;
use crate::failure::{Code, Failure};
use crate::output::{Format, Style, print, print_json, print_json_line};
use crate::pool_choice::PoolChoice;
use crate::reach::LOOK;
use crate::wire::StatusView;
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    status: &'a StatusView,
    state: &'static str,
    alerts: &'a [Alert],
}

/// Exit code 5 when an alert is critical, so that a cron job needs no parser.
pub(super) fn run(
    pool: &PoolChoice,
    arguments: &PoolStatusArguments,
    style: Style,
) -> Result<ExitCode, Failure> {
    let mut status = pool.with(LOOK, |reach| reach.status())?;
    status.thresholds = status.thresholds.with(&arguments.thresholds.into());
    let alerts = alerts(&status);
    let state = state(&status, &alerts);
    match style.format {
        Format::Json => print_json("PoolStatus", &Document { status: &status, state, alerts: &alerts })?,
        Format::Jsonl => {
            print_json_line("PoolStatus", &Document { status: &status, state, alerts: &alerts })?
        }
        _ => print(&text(&status, state, &alerts, style))?,
    }
    let critical = alerts.iter().any(|alert| alert.level == Level::Critical);
    Ok(if critical { Code::Capacity.into() } else { ExitCode::SUCCESS })
}

/// In a word.
pub(super) fn state(status: &StatusView, alerts: &[Alert]) -> &'static str {
    if status.poisoned {
        "failed"
    } else {
        match alerts.iter().map(|alert| alert.level).max() {
            Some(Level::Critical) => "critical",
            Some(Level::Warning) => "warning",
            None => "normal",
        }
    }
}

fn text(status: &StatusView, state: &str, alerts: &[Alert], style: Style) -> String {
    let size = |bytes| style.size(bytes);
    let data = data_percent(status);
    let metadata = percent(status.metadata_used, status.metadata_free);
    let free = match status.kept {
        0 => size(status.free),
        kept => format!("{} ({} of it still takes space below the pool)", size(status.free), size(kept)),
    };
    let figures = [
        ("pool", format!("{} ({})", status.pool, status.pool_id)),
        ("state", state.to_owned()),
        ("capacity", size(status.capacity)),
        ("provisioned", format!("{} (overcommit {:.1}x)", size(status.provisioned), status.overcommit)),
        ("mapped", format!("{} ({data} % of the data space)", size(status.mapped))),
        ("reserved", size(status.reserved)),
        ("quarantined", size(status.quarantined)),
        ("free", free),
        (
            "metadata",
            format!(
                "{} of {} ({metadata} %)",
                size(status.metadata_used),
                size(status.metadata_used + status.metadata_free)
            ),
        ),
        ("volumes", status.volumes.to_string()),
        ("snapshots", status.snapshots.to_string()),
        ("versions", status.versions.to_string()),
        ("reclaiming", format!("{} of {} layers", status.reclaiming, status.layers)),
        ("generation", status.generation.to_string()),
        ("thresholds", status.thresholds.words()),
        ("when full", status.on_full.words()),
    ];
    let devices = status.devices.iter().map(|device| {
        let figure = format!("{}: {}, {} free", device.path, size(device.size), size(device.free));
        (format!("device {}", device.index), figure)
    });
    let mut text = String::new();
    for (name, figure) in figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).chain(devices) {
        writeln!(text, "{name:>12}  {figure}").expect("a string takes all");
    }
    for alert in alerts {
        let level = match alert.level {
            Level::Warning => "warning",
            Level::Critical => "critical",
        };
        writeln!(text, "alert: {level}: {}", alert.text).expect("a string takes all");
    }
    text
}
