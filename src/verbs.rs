//! The commands, a file each.

mod clone;
mod df;
mod export;
mod image_export;
mod image_import;
mod ls;
mod names;
mod pool_check;
mod pool_create;
mod pool_grow;
mod pool_settle;
mod pool_status;
mod pool_thin;
mod remove;
mod rollback;
mod serve;
mod snapshot;
mod space_note;
mod volume_create;
mod volume_resize;

use crate::arguments::{Arguments, ImageVerb, PoolVerb, Verb, VolumeVerb};
use crate::failure::Failure;
use crate::output::Style;
use crate::reach::PoolChoice;
use crate::wire::KindView;
use std::path::PathBuf;
use std::process::ExitCode;

/// Carries out what was typed.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let style = Style { format: arguments.output, exact_bytes: arguments.bytes };
    let pool = PoolChoice { path: arguments.pool, engine: arguments.io.into() };
    match arguments.verb {
        Verb::Pool(verb) => return run_pool(verb, &pool, style),
        Verb::Image(ImageVerb::Import(import)) => image_import::run(&pool, import, style)?,
        Verb::Image(ImageVerb::Export(export)) => image_export::run(&pool, export, style)?,
        Verb::Image(ImageVerb::Ls) => ls::run(&pool, Some(KindView::Version), style)?,
        Verb::Image(ImageVerb::Rm(many)) => {
            let order =
                remove::Order { kind: Some(KindView::Version), recursive: false, consent: many.consent };
            remove::run(&pool, &many.names, order, style)?;
        }
        Verb::Volume(VolumeVerb::Create(create)) => volume_create::run(&pool, &create, style)?,
        Verb::Volume(VolumeVerb::Resize(resize)) => volume_resize::run(&pool, &resize, style)?,
        Verb::Volume(VolumeVerb::Rm(many)) => {
            let kind = Some(KindView::Volume);
            let order = remove::Order { kind, recursive: many.recursive, consent: many.consent };
            remove::run(&pool, &many.names, order, style)?;
        }
        Verb::Clone(clone) => clone::run(&pool, &clone, style)?,
        Verb::Snapshot(snapshot) => snapshot::run(&pool, &snapshot, style)?,
        Verb::Rollback(rollback) => rollback::run(&pool, &rollback, style)?,
        Verb::Rm(many) => {
            let order = remove::Order { kind: None, recursive: many.recursive, consent: many.consent };
            remove::run(&pool, &many.names, order, style)?;
        }
        Verb::Ls => ls::run(&pool, None, style)?,
        Verb::Df => df::run(&pool, style)?,
        Verb::Export(order) => export::run(&pool, order, style)?,
        Verb::Unexport { name } => export::end(&pool, &name, style)?,
        Verb::Exports => export::list(&pool, style)?,
        Verb::Serve(options) => serve::run(&pool, options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_pool(verb: PoolVerb, pool: &PoolChoice, style: Style) -> Result<ExitCode, Failure> {
    let choose =
        |path: Option<PathBuf>| PoolChoice { path: path.or_else(|| pool.path.clone()), engine: pool.engine };
    match verb {
        PoolVerb::Create(create) => pool_create::run(&create, pool.engine, style)?,
        PoolVerb::Status(status) => return pool_status::run(&choose(status.path.clone()), &status, style),
        PoolVerb::Check(check) => {
            return pool_check::run(&choose(check.path), check.accept_lost_writes, style);
        }
        PoolVerb::Grow(grow) => pool_grow::run(&choose(grow.path), grow.size, style)?,
        PoolVerb::Settle(settle) => pool_settle::run(&choose(settle.path), style)?,
        PoolVerb::Thin(thin) => pool_thin::run(&choose(thin.path), style)?,
    }
    Ok(ExitCode::SUCCESS)
}
