//! The commands, a file each.

mod clone;
mod completions;
mod consent;
mod df;
mod doctor;
mod explain;
mod export;
mod export_set;
mod export_show;
mod history;
mod image_export;
mod image_import;
mod job;
mod label;
mod ls;
mod names;
mod pool_add;
mod pool_check;
mod pool_create;
mod pool_grow;
mod pool_ls;
mod pool_register;
mod pool_set;
mod pool_settle;
mod pool_status;
mod pool_thin;
mod quickstart;
mod remove;
mod rollback;
mod serve;
mod snapshot;
mod space_note;
mod tree;
mod volume_create;
mod volume_resize;

use crate::arguments::{
    Arguments, CloneVerb, Consent, ExportVerb, ImageVerb, ManyArguments, PoolVerb, RemoveArguments, SnapVerb,
    Verb, View, VolumeVerb,
};
use crate::failure::Failure;
use crate::output::{Style, refuse_list_options};
use crate::pool_choice::PoolChoice;
use crate::wire::KindView;
pub(crate) use completions::VARIABLE as COMPLETE;
use ls::Only;
use std::process::ExitCode;

/// Carries out what was typed.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { pool, devices, api, io, view, verb } = arguments;
    if !verb.is_list() {
        refuse_list_options(&view)?;
    }
    let mut pool = PoolChoice::new(pool, api, io.into());
    pool.others = devices;
    let style = Style { format: view.output, exact_bytes: view.bytes };
    match verb {
        Verb::Pool(verb) => return run_pool(verb, &pool, &view, style),
        Verb::Image(verb) => run_image(verb, &pool, &view, style)?,
        Verb::Volume(verb) => run_volume(verb, &pool, &view, style)?,
        Verb::Clone(verb) => run_clone(verb, &pool, &view, style)?,
        Verb::Snap(verb) => run_snap(verb, &pool, &view, style)?,
        Verb::Export(verb) => run_export(verb, &pool, &view, style)?,
        Verb::Job(verb) => job::run(&pool, verb, &view, style)?,
        Verb::Ls(list) => ls::run(&pool, list, Only::All, &view)?,
        Verb::Tree(tree) => tree::run(&pool.or(tree.path.as_deref()), &view)?,
        Verb::Df(df) => df::run(&pool.or(df.path.as_deref()), &view)?,
        Verb::Rm(many) => remove_many(&pool, many, None, style)?,
        Verb::Label(label) => label::run(&pool, label, style)?,
        Verb::History(history) => history::run(&pool, &history, &view)?,
        Verb::Serve(options) => serve::run(&pool, options)?,
        Verb::Doctor => doctor::run(&pool, &view)?,
        Verb::Quickstart(quickstart) => quickstart::run(&pool, &quickstart.directory, &view)?,
        Verb::Explain(explain) => explain::run(explain.code.as_deref(), &view)?,
        Verb::Completions(completions) => completions::script(completions.shell)?,
        Verb::Man(man) => completions::manual(&man.directory)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_pool(verb: PoolVerb, pool: &PoolChoice, view: &View, style: Style) -> Result<ExitCode, Failure> {
    match verb {
        PoolVerb::Create(create) => pool_create::run(&create, pool.engine, style)?,
        PoolVerb::Ls => pool_ls::run(pool, view)?,
        PoolVerb::Register(register) => pool_register::register(pool, register.path, style)?,
        PoolVerb::Forget(forget) => pool_register::forget(&forget.name, style)?,
        PoolVerb::Status(status) => {
            return pool_status::run(&pool.or(status.path.as_deref()), &status, style);
        }
        PoolVerb::Set(set) => pool_set::run(&pool.or(set.path.as_deref()), &set, style)?,
        PoolVerb::Check(check) => {
            return pool_check::run(&pool.or(check.path.as_deref()), check.accept_lost_writes, style);
        }
        PoolVerb::Grow(grow) => {
            let pool = pool.or(grow.path.as_deref());
            match &grow.add {
                Some(add) => pool_add::run(&pool, add, grow.size, grow.consent, style)?,
                None => pool_grow::run(&pool, grow.size, grow.consent, style)?,
            }
        }
        PoolVerb::Settle(settle) => {
            pool_settle::run(&pool.or(settle.path.as_deref()), settle.consent, style)?
        }
        PoolVerb::Thin(thin) => pool_thin::run(&pool.or(thin.path.as_deref()), thin.consent, style)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_image(verb: ImageVerb, pool: &PoolChoice, view: &View, style: Style) -> Result<(), Failure> {
    match verb {
        ImageVerb::Import(import) => image_import::run(pool, import, style),
        ImageVerb::Export(export) => image_export::run(pool, export, style),
        ImageVerb::Ls(list) => ls::run(pool, list, Only::Kind(KindView::Version), view),
        ImageVerb::Rm(many) => remove_some(pool, many, KindView::Version, style),
    }
}

fn run_volume(verb: VolumeVerb, pool: &PoolChoice, view: &View, style: Style) -> Result<(), Failure> {
    match verb {
        VolumeVerb::Create(create) => volume_create::run(pool, create, style),
        VolumeVerb::Ls(list) => ls::run(pool, list, Only::Kind(KindView::Volume), view),
        VolumeVerb::Resize(resize) => volume_resize::run(pool, resize, style),
        VolumeVerb::Rm(many) => remove_many(pool, many, Some(KindView::Volume), style),
    }
}

fn run_clone(verb: CloneVerb, pool: &PoolChoice, view: &View, style: Style) -> Result<(), Failure> {
    match verb {
        CloneVerb::Create(clone) => clone::run(pool, clone, style),
        CloneVerb::Ls(list) => ls::run(pool, list, Only::Clones, view),
        CloneVerb::Rm(many) => remove_many(pool, many, Some(KindView::Volume), style),
    }
}

fn run_snap(verb: SnapVerb, pool: &PoolChoice, view: &View, style: Style) -> Result<(), Failure> {
    match verb {
        SnapVerb::Create(snapshot) => snapshot::run(pool, snapshot, style),
        SnapVerb::Ls(list) => ls::run(pool, list, Only::Kind(KindView::Snapshot), view),
        SnapVerb::Rollback(rollback) => rollback::run(pool, rollback, style),
        SnapVerb::Rm(many) => remove_some(pool, many, KindView::Snapshot, style),
    }
}

fn run_export(verb: ExportVerb, pool: &PoolChoice, view: &View, style: Style) -> Result<(), Failure> {
    match verb {
        ExportVerb::Start(order) => export::start(pool, order, style),
        ExportVerb::Set(set) => export_set::run(pool, set, style),
        ExportVerb::Stop(many) => export::stop(pool, many, style),
        ExportVerb::Ls(list) => export::list(pool, list, view),
        ExportVerb::Show(show) => export_show::run(pool, show, style),
    }
}

fn remove_some(pool: &PoolChoice, many: ManyArguments, kind: KindView, style: Style) -> Result<(), Failure> {
    removal(pool, many.names, Some(kind), false, many.consent, style)
}

fn remove_many(
    pool: &PoolChoice,
    many: RemoveArguments,
    kind: Option<KindView>,
    style: Style,
) -> Result<(), Failure> {
    removal(pool, many.names, kind, many.recursive, many.consent, style)
}

fn removal(
    pool: &PoolChoice,
    names: Vec<String>,
    kind: Option<KindView>,
    recursive: bool,
    consent: Consent,
    style: Style,
) -> Result<(), Failure> {
    remove::run(pool, names, remove::Order { kind, recursive, consent }, style)
}
