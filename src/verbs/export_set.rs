//! `offshoot export set NAME... --iops COUNT --bandwidth SIZE`: other limits of speed for exports, while they are used.

use super::consent;
use super::export::exported;
use crate::arguments::ExportSetArguments;
use crate::failure::{Failure, after};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::reach::unexpected;
use crate::speed::words;
use crate::wire::{Answer, Ask, ExportChange, ExportView};
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, mut set: ExportSetArguments, style: Style) -> Result<(), Failure> {
    let pool = pool.of(&mut set.names)?;
    let change = ExportChange {
        iops: set.iops.map(|limit| limit.0.map(|requests| requests.0)),
        bytes_per_second: set.bandwidth.map(|limit| limit.0.map(|bandwidth| bandwidth.0)),
    };
    pool.with(set.consent.demand(), |reach| {
        let names = exported(reach, &set.names, "no export was changed")?;
        let mut changed: Vec<ExportView> = Vec::new();
        for name in names {
            let ask = Ask::SetExport { name, change };
            if consent::is_dry(reach, &ask, set.consent, style)? {
                continue;
            }
            match reach.ask(ask).map_err(after(changed.len()))? {
                Answer::Exported(view) => changed.push(*view),
                other => return Err(unexpected(&other)),
            }
        }
        if set.consent.dry_run {
            return Ok(());
        }
        let sentence = match changed.as_slice() {
            [one] => format!("{} is exported with {}", one.name, words(one.iops, one.bytes_per_second)),
            many => format!("{} exports have other limits; see offshoot export ls -o wide", many.len()),
        };
        tell(style, "ExportsSet", &json!({ "items": changed }), &sentence)
    })
}
