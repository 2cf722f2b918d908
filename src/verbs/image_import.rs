//! `offshoot image import IMAGE@VERSION FILE`.

use super::consent;
use crate::arguments::ImageImportArguments;
use crate::clock;
use crate::failure::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::reach::unexpected;
use crate::size::Size;
use crate::wire::{Answer, Ask, Base, DISK_BYTES_MAX, ImportOrder, ImportView};
use std::path::{Path, PathBuf};

pub(super) fn run(
    pool: &PoolChoice,
    mut arguments: ImageImportArguments,
    style: Style,
) -> Result<(), Failure> {
    let pool = pool.of([&mut arguments.version].into_iter().chain(&mut arguments.base))?;
    let what = format!("{} was not imported", arguments.version);
    let file = absolute(&arguments.file, &what)?;
    let backing = arguments.backing.iter().map(|file| absolute(file, &what)).collect::<Result<_, _>>()?;
    let base = match (arguments.no_base, arguments.base) {
        (true, _) => Base::Nothing,
        (false, Some(version)) => Base::Version(version),
        (false, None) => Base::Latest,
    };
    let order = ImportOrder {
        version: arguments.version,
        file,
        base,
        force_raw: arguments.force_raw,
        format: arguments.format,
        backing,
        size_max: arguments.size_max.map_or(DISK_BYTES_MAX, Size::bytes),
    };
    let interrupt = Interrupt::watch()?;
    let start = clock::now();
    let ask = Ask::Import(order);
    let view = pool.with(arguments.consent.demand(), |reach| {
        if consent::is_dry(reach, &ask, arguments.consent, style)? {
            return Ok(None);
        }
        match reach.ask_patiently(ask, interrupt)? {
            Answer::Imported(view) => Ok(Some(view)),
            other => Err(unexpected(&other)),
        }
    })?;
    let Some(view) = view else { return Ok(()) };
    tell(style, "Import", &view, &sentence(&view, start.elapsed().as_secs_f64(), style))
}

/// The path as another process would find it.
pub(super) fn absolute(file: &Path, what: &str) -> Result<PathBuf, Failure> {
    std::path::absolute(file).map_err(|error| {
        Failure::new(Code::Usage, what, format!("{}: {error}", file.display()), "a path that exists")
    })
}

fn sentence(view: &ImportView, seconds: f64, style: Style) -> String {
    let base = view
        .base
        .as_ref()
        .map_or(String::new(), |base| format!(", {} shared with {base}", style.size(view.unchanged)));
    format!(
        "imported {} in {seconds:.1} s: {} of disk, {} stored{base}, {} zeros not stored; next: offshoot clone create {0} NAME",
        view.version,
        style.size(view.size),
        style.size(view.stored),
        style.size(view.zero),
    )
}
