//! `offshoot image export NAME FILE`.

use super::consent;
use super::image_import::absolute;
use crate::arguments::ImageExportArguments;
use crate::clock;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::reach::unexpected;
use crate::wire::{Answer, Ask, ImageExportOrder, ImageExportView};

pub(super) fn run(
    pool: &PoolChoice,
    mut arguments: ImageExportArguments,
    style: Style,
) -> Result<(), Failure> {
    let pool = pool.of([&mut arguments.name])?;
    let what = format!("{} was not exported", arguments.name);
    let order = Ask::ExportImage(ImageExportOrder {
        file: absolute(&arguments.file, &what)?,
        name: arguments.name,
        format: arguments.format,
        force: arguments.force,
    });
    let interrupt = Interrupt::watch()?;
    let start = clock::now();
    let view = pool.with(arguments.consent.demand(), |reach| {
        if consent::is_dry(reach, &order, arguments.consent, style)? {
            return Ok(None);
        }
        match reach.ask_patiently(order, interrupt)? {
            Answer::ImageExported(view) => Ok(Some(view)),
            other => Err(unexpected(&other)),
        }
    })?;
    let Some(view) = view else { return Ok(()) };
    tell(style, "ImageExported", &view, &sentence(&view, start.elapsed().as_secs_f64(), style))
}

fn sentence(view: &ImageExportView, seconds: f64, style: Style) -> String {
    format!(
        "exported {} to {} as {} in {seconds:.1} s: {} of disk, {} written",
        view.name,
        view.file.display(),
        view.format,
        style.size(view.size),
        style.size(view.written),
    )
}
