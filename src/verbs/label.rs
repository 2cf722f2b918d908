//! `offshoot label NAME... --set KEY=VALUE --unset KEY`.

use super::{consent, names};
use crate::arguments::LabelArguments;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::wire::{Ask, LabelOrder};
use serde_json::json;
use std::collections::BTreeMap;

const WHAT: &str = "no label was changed";

pub(super) fn run(pool: &PoolChoice, mut label: LabelArguments, style: Style) -> Result<(), Failure> {
    let pool = pool.of(&mut label.names)?;
    let set = label.set.into_iter().map(|(key, value)| (key, Some(value)));
    let labels: BTreeMap<String, Option<String>> =
        label.unset.into_iter().map(|key| (key, None)).chain(set).collect();
    if labels.is_empty() {
        let why = "no label is given";
        return Err(Failure::new(Code::Usage, WHAT, why, "--set KEY=VALUE, or --unset KEY"));
    }
    pool.with(label.consent.demand(), |reach| {
        let names = names::select(&label.names, &reach.entries()?, WHAT)?;
        let order = Ask::Label(LabelOrder { names: names.clone(), labels: labels.clone() });
        if consent::is_dry(reach, &order, label.consent, style)? {
            return Ok(());
        }
        reach.ask(order)?;
        let sentence = format!("{} names have changed labels; next: offshoot ls -l SELECTOR", names.len());
        tell(style, "Labelled", &json!({ "names": names, "labels": labels }), &sentence)
    })
}
