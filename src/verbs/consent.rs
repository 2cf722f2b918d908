//! Before a change: what it would do is all that is said of it with `--dry-run`, and what is asked before something is lost.

use crate::arguments::Consent;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::output::{Format, Style, print, print_json, print_json_line};
use crate::reach::Reach;
use crate::wire::{Ask, PlanView};

/// Clones that are named before the others are only counted.
const CLONES_SHOWN: usize = 10;

/// Whether the change is to be made. `word` is what has to be typed where something is lost.
pub(super) fn ask(
    reach: &mut Reach,
    change: &Ask,
    consent: Consent,
    word: &str,
    style: Style,
) -> Result<bool, Failure> {
    if is_dry(reach, change, consent, style)? {
        return Ok(false);
    }
    let plan = reach.plan(change)?;
    if plan.destroys {
        confirm(consent.yes, &damage(&plan), word)?;
    }
    Ok(true)
}

/// The same for a change that loses nothing: nobody is asked.
pub(super) fn is_dry(
    reach: &mut Reach,
    change: &Ask,
    consent: Consent,
    style: Style,
) -> Result<bool, Failure> {
    if consent.dry_run {
        show_plan(&reach.plan(change)?, style)?;
    }
    Ok(consent.dry_run)
}

fn damage(plan: &PlanView) -> String {
    match plan.stops_exports.as_slice() {
        [] => plan.summary.clone(),
        [one] => format!("{}, and ends the export of {one}", plan.summary),
        many => format!("{}, and ends {} exports", plan.summary, many.len()),
    }
}

pub(super) fn show_plan(plan: &PlanView, style: Style) -> Result<(), Failure> {
    match style.format {
        Format::Json => return print_json("Plan", plan),
        Format::Jsonl => return print_json_line("Plan", plan),
        Format::Name => return print(&plan.names.iter().map(|name| format!("{name}\n")).collect::<String>()),
        Format::Table | Format::Wide | Format::Csv => {}
    }
    let mut text = format!("plan: {}\n", plan.summary);
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:>12}  {value}\n"));
    if plan.provisions > 0 {
        line("provisions", style.size(plan.provisions));
    }
    if let Some(bytes) = plan.frees.filter(|bytes| *bytes > 0) {
        line("frees", style.size(bytes));
    }
    for export in &plan.stops_exports {
        line("ends export", export.clone());
    }
    for clone in plan.clones.iter().take(CLONES_SHOWN) {
        line("clone stays", clone.clone());
    }
    if let Some(more) = plan.clones.len().checked_sub(CLONES_SHOWN).filter(|more| *more > 0) {
        line("clone stays", format!("{more} more"));
    }
    text.push_str("nothing was changed\n");
    print(&text)
}
