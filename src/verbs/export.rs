//! `offshoot export`: what the daemon serves to virtual machines over vhost-user-blk.

use super::{consent, names};
use crate::arguments::{ExportArguments, ListArguments, ManyArguments, View};
use crate::failure::{Code, Failure, after};
use crate::list::{Column, Shown, column, extra, print_list};
use crate::output::{Format, Style, print, print_json, print_json_line, say, tell};
use crate::pool_choice::PoolChoice;
use crate::reach::{LOOK, Reach, unexpected};
use crate::wire::{Answer, Ask, ExportOrder, ExportView};
use serde::Serialize;
use serde_json::json;

const COLUMNS: [Column; 13] = [
    column("name", "NAME", Shown::Text),
    column("access", "ACCESS", Shown::Text),
    column("connected", "CONNECTED", Shown::Flag),
    column("reads", ">READS", Shown::Text),
    column("writes", ">WRITES", Shown::Text),
    column("errors", ">ERRORS", Shown::Text),
    column("read_p99", ">READ P99", Shown::Time),
    column("write_p99", ">WRITE P99", Shown::Time),
    column("socket", "SOCKET", Shown::Text),
    extra("nbd", "NBD", Shown::Text),
    extra("flushes", ">FLUSHES", Shown::Text),
    extra("iops", ">IOPS MAX", Shown::Text),
    extra("bytes_per_second", ">BYTES/S MAX", Shown::Size),
];

/// The figures that the columns show stand beside the whole of them.
#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    export: &'a ExportView,
    access: &'static str,
    reads: u64,
    writes: u64,
    flushes: u64,
    errors: u64,
    read_p99: Option<f64>,
    write_p99: Option<f64>,
}

impl<'a> From<&'a ExportView> for Item<'a> {
    fn from(export: &'a ExportView) -> Self {
        let io = &export.io;
        Self {
            export,
            access: if export.read_only { "read-only" } else { "read-write" },
            reads: io.reads.count.requests,
            writes: io.writes.count.requests,
            flushes: io.flushes.count.requests,
            errors: io.errors(),
            read_p99: io.reads.latency_seconds.p99,
            write_p99: io.writes.latency_seconds.p99,
        }
    }
}

pub(super) fn start(pool: &PoolChoice, mut export: ExportArguments, style: Style) -> Result<(), Failure> {
    let pool = pool.of(&mut export.names)?;
    let what = match export.names.as_slice() {
        [one] => format!("{one} was not exported"),
        _ => "nothing was exported".to_owned(),
    };
    let socket = export.socket.map(std::path::absolute).transpose().map_err(|error| {
        Failure::new(Code::Usage, what.clone(), error.to_string(), "--socket with another path")
    })?;
    pool.with(export.consent.demand(), |reach| {
        let names = expand(reach, &export.names, &what)?;
        if names.len() > 1 && socket.is_some() {
            let why = format!("--socket is for one export, and these are {}", names.len());
            return Err(Failure::new(Code::Usage, what.clone(), why, "the same command without --socket"));
        }
        let mut also = Vec::new();
        for (started, name) in names.iter().enumerate() {
            let order = Ask::Export(ExportOrder {
                name: name.clone(),
                socket: socket.clone(),
                mode: export.socket_mode,
                owner: export.socket_owner.clone(),
                read_only: export.read_only,
                queues: export.queues,
                iops: export.iops,
                bytes_per_second: export.bandwidth.map(|bandwidth| bandwidth.0),
            });
            if consent::is_dry(reach, &order, export.consent, style)? {
                continue;
            }
            let answer = reach.ask(order).map_err(|mut failure| {
                if started > 0 {
                    failure.what = format!("{}, after {started} of {}", failure.what, names.len());
                }
                after(started)(failure)
            })?;
            let Answer::Exported(view) = answer else { return Err(unexpected(&answer)) };
            show(&view, names.len(), style)?;
            also.extend(view.nbd.into_iter().next());
        }
        match also.as_slice() {
            _ if style.format != Format::Table => {}
            [] => {}
            [one] => say(&format!("over NBD: {one}")),
            [first, ..] => say(&format!("over NBD: {first}, the others alike")),
        }
        if let ([name], Format::Table, false) = (names.as_slice(), style.format, export.consent.dry_run) {
            say(&format!("next: offshoot export show {name} --for qemu"));
        }
        Ok(())
    })
}

fn show(view: &ExportView, count: usize, style: Style) -> Result<(), Failure> {
    match style.format {
        Format::Json if count == 1 => print_json("Export", view),
        // Several documents are a line each.
        Format::Json | Format::Jsonl => print_json_line("Export", view),
        Format::Table | Format::Wide | Format::Csv | Format::Name => {
            print(&format!("{}\n", view.socket.display()))
        }
    }
}

fn expand(reach: &mut Reach, patterns: &[String], what: &str) -> Result<Vec<String>, Failure> {
    if patterns.iter().any(|pattern| pattern.contains('*')) {
        return names::select(patterns, &reach.entries()?, what);
    }
    names::expand(patterns, what)
}

/// Of what a pattern stands for, what is exported.
pub(super) fn exported(reach: &mut Reach, patterns: &[String], what: &str) -> Result<Vec<String>, Failure> {
    let mut names = expand(reach, patterns, what)?;
    if patterns.iter().any(|pattern| pattern.contains('*')) {
        let exported: Vec<String> = reach.exports()?.into_iter().map(|export| export.name).collect();
        names.retain(|name| exported.contains(name));
    }
    Ok(names)
}

pub(super) fn stop(pool: &PoolChoice, mut many: ManyArguments, style: Style) -> Result<(), Failure> {
    let pool = pool.of(&mut many.names)?;
    let what = "nothing is exported less";
    pool.with(many.consent.demand(), |reach| {
        let names = exported(reach, &many.names, what)?;
        for (stopped, name) in names.iter().enumerate() {
            let order = Ask::Unexport { name: name.clone() };
            if consent::is_dry(reach, &order, many.consent, style)? {
                continue;
            }
            reach.ask(order).map_err(after(stopped))?;
        }
        if many.consent.dry_run {
            return Ok(());
        }
        let sentence = match names.as_slice() {
            [one] => format!("{one} is not exported any more"),
            many => format!("{} are not exported any more", many.len()),
        };
        tell(style, "Unexported", &json!({ "names": names }), &sentence)
    })
}

pub(super) fn list(pool: &PoolChoice, mut list: ListArguments, view: &View) -> Result<(), Failure> {
    let pool = pool.of(&mut list.names)?;
    list.names.retain(|name| !name.is_empty());
    let mut exports = pool.with(LOOK, Reach::exports)?;
    if !list.names.is_empty() {
        let is_wanted =
            |export: &ExportView| list.names.iter().any(|pattern| names::matches(pattern, &export.name));
        exports.retain(is_wanted);
    }
    let items: Vec<Item<'_>> = exports.iter().map(Item::from).collect();
    print_list("ExportList", &COLUMNS, &items, view)
}
