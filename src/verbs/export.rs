//! `offshoot export NAME --vhost`, `offshoot unexport NAME` and `offshoot exports`: what the daemon serves to virtual machines.

use crate::arguments::ExportArguments;
use crate::failure::{Code, Failure};
use crate::output::{Format, Style, Table, print, print_json, tell, time};
use crate::reach::{CHANGE, LOOK, PoolChoice, Reach, unexpected};
use crate::wire::{Answer, Ask, ExportOrder, ExportView};
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, export: ExportArguments, style: Style) -> Result<(), Failure> {
    let order = ExportOrder {
        socket: export.socket.map(std::path::absolute).transpose().map_err(|error| {
            let what = format!("{} was not exported", export.name);
            Failure::new(Code::Usage, what, error.to_string(), "--socket with another path")
        })?,
        name: export.name,
        mode: export.socket_mode,
        read_only: export.read_only,
        queues: export.queues,
        iops: export.iops,
        bytes_per_second: export.bandwidth.map(|bandwidth| bandwidth.0),
    };
    let exported = pool.with(CHANGE, |reach| match reach.ask(Ask::Export(order))? {
        Answer::Exported(view) => Ok(view),
        other => Err(unexpected(&other)),
    })?;
    match style.format {
        Format::Table => print(&format!("{}\n", exported.socket.display())),
        Format::Json => print_json("Export", &exported),
    }
}

pub(super) fn end(pool: &PoolChoice, name: &str, style: Style) -> Result<(), Failure> {
    pool.with(CHANGE, |reach| reach.ask(Ask::Unexport { name: name.to_owned() }))?;
    tell(style, "Unexported", &json!({ "name": name }), &format!("{name} is not exported any more"))
}

pub(super) fn list(pool: &PoolChoice, style: Style) -> Result<(), Failure> {
    let exports = pool.with(LOOK, ask)?;
    match style.format {
        Format::Json => print_json("ExportList", &json!({ "items": exports })),
        Format::Table => print(&table(&exports).render()),
    }
}

fn ask(reach: &mut Reach) -> Result<Vec<ExportView>, Failure> {
    match reach.ask(Ask::Exports)? {
        Answer::Exports { items } => Ok(items),
        other => Err(unexpected(&other)),
    }
}

fn table(exports: &[ExportView]) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "ACCESS",
        "CONNECTED",
        ">READS",
        ">WRITES",
        ">ERRORS",
        ">READ P99",
        ">WRITE P99",
        "SOCKET",
    ]);
    for export in exports {
        let (reads, writes) = (&export.io.reads, &export.io.writes);
        table.row(vec![
            export.name.clone(),
            if export.read_only { "read-only" } else { "read-write" }.to_owned(),
            if export.connected { "yes" } else { "-" }.to_owned(),
            reads.count.requests.to_string(),
            writes.count.requests.to_string(),
            export.io.errors().to_string(),
            reads.latency_seconds.p99.map_or("-".to_owned(), time),
            writes.latency_seconds.p99.map_or("-".to_owned(), time),
            export.socket.display().to_string(),
        ]);
    }
    table
}
