//! `offshoot clone create SOURCE NAME...`: all or none, with their seeds.

use super::names::{self, Point};
use super::{consent, space_note};
use crate::arguments::CloneArguments;
use crate::clock;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::seed::{self, NETWORK_CONFIG_BYTES_MAX, USER_DATA_BYTES_MAX};
use crate::size::{Iec, Size};
use crate::wire::{Ask, CloneOrder, SeedOrder};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

pub(super) fn run(pool: &PoolChoice, mut clone: CloneArguments, style: Style) -> Result<(), Failure> {
    let what = format!("no clone of {} was made", clone.source);
    let pool = pool.of(clone.names.iter_mut().chain([&mut clone.source]))?;
    let names = names::expand(&clone.names, &what)?;
    names::require_point(&names, Point::Forbidden, &what)?;
    names::require_point(std::slice::from_ref(&clone.source), Point::Required, &what)?;
    let seed = read_seed(clone.seed.as_deref(), clone.seed_network.as_deref(), &what)?;
    let count = names.len();
    let all_or_none = |_: &&String| seed.is_some();
    let seeds: Vec<String> = names.iter().filter(all_or_none).map(|name| seed::name_of(name)).collect();
    let order = Ask::Clone(CloneOrder {
        source: clone.source.clone(),
        names: names.clone(),
        size: clone.size.map(Size::bytes),
        labels: clone.labels.into_iter().collect(),
        seed,
    });
    pool.with(clone.consent.demand(), |reach| {
        if consent::is_dry(reach, &order, clone.consent, style)? {
            return Ok(());
        }
        let start = clock::now();
        reach.ask(order)?;
        let took = start.elapsed().as_secs_f64();
        let noun = if count == 1 { "clone" } else { "clones" };
        let with = match seeds.len() {
            0 => "",
            1 => " with its seed",
            _ => " with their seeds",
        };
        let first: Vec<&str> = names.iter().take(1).chain(seeds.iter().take(1)).map(String::as_str).collect();
        let sentence = format!(
            "{count} {noun} of {}{with} in {took:.3} s; next: offshoot export start {}",
            clone.source,
            first.join(" ")
        );
        space_note::overcommit(reach, style)?;
        let document = json!({ "source": clone.source, "names": names, "seeds": seeds });
        tell(style, "Cloned", &document, &sentence)
    })
}

fn read_seed(
    user_data: Option<&Path>,
    network_config: Option<&Path>,
    what: &str,
) -> Result<Option<SeedOrder>, Failure> {
    let Some(user_data) = user_data else { return Ok(None) };
    let user_data = read_text(user_data, USER_DATA_BYTES_MAX, what)?;
    let network_config =
        network_config.map(|path| read_text(path, NETWORK_CONFIG_BYTES_MAX, what)).transpose()?;
    Ok(Some(SeedOrder { user_data, network_config }))
}

fn read_text(path: &Path, bytes_max: usize, what: &str) -> Result<String, Failure> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
        Failure::new(code, what, format!("{shown} cannot be read: {error}"), format!("ls -l {shown}"))
    };
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > bytes_max {
        let why = format!("{shown} is longer than the {} that a seed takes", Iec(most - 1));
        return Err(Failure::new(Code::Usage, what, why, "a shorter file, which may fetch the rest"));
    }
    String::from_utf8(bytes).map_err(|_| {
        let why = format!("{shown} is no text in UTF-8");
        Failure::new(Code::Usage, what, why, "the text itself: not compressed, not in another encoding")
    })
}
