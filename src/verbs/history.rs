//! `offshoot history`: who has changed what.

use crate::arguments::{HistoryArguments, View};
use crate::failure::{Code, Failure};
use crate::history::{History, Record, RecordList};
use crate::list::{Column, Shown, column, extra, print_list};
use crate::pool_choice::{Place, PoolChoice};
use crate::reach::{LOOK, Reach};
use serde::Serialize;

const COLUMNS: [Column; 9] = [
    column("time", "TIME", Shown::Text),
    column("pool", "POOL", Shown::Text),
    column("user", ">USER", Shown::Text),
    column("command", "COMMAND", Shown::Text),
    column("names", "NAMES", Shown::Text),
    column("result", "RESULT", Shown::Text),
    extra("seconds", ">TOOK", Shown::Time),
    extra("job", "JOB", Shown::Text),
    extra("pid", ">PID", Shown::Text),
];

/// Names that are written out before the others are only counted.
const NAMES_MAX: usize = 3;

#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    record: &'a Record,
    names: String,
    result: String,
}

pub(super) fn run(pool: &PoolChoice, history: &HistoryArguments, view: &View) -> Result<(), Failure> {
    let records = find(pool, history)?;
    let items: Vec<Item<'_>> = records.iter().map(item).collect();
    print_list("History", &COLUMNS, &items, view)
}

/// A daemon of another user keeps its own; otherwise the one history of this machine says it all.
fn find(pool: &PoolChoice, history: &HistoryArguments) -> Result<Vec<Record>, Failure> {
    if let Some(socket) = &pool.api {
        let client = crate::daemon::Client::connect(socket, "")?.ok_or_else(|| {
            let why = format!("nobody answers on {}", socket.display());
            Failure::new(Code::Unreachable, "the history was not read", why, "offshoot serve")
        })?;
        let list: RecordList = client.get(&format!("/v1/history?limit={}", history.limit))?;
        return Ok(list.items);
    }
    let is_named = pool.pool.is_some() && !history.all;
    let name = match (is_named, pool.place()) {
        (true, Ok(Place::File(_))) => Some(pool.with(LOOK, Reach::status)?.pool),
        _ => None,
    };
    Ok(History::open().newest(name.as_deref(), history.limit))
}

fn item(record: &Record) -> Item<'_> {
    let text = |key: &str| record.order.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    let many = record.order.get("names").and_then(serde_json::Value::as_array);
    let many: Vec<String> =
        many.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    let one = ["name", "version", "to"].into_iter().find_map(text);
    let names: Vec<String> = many.into_iter().chain(one).collect();
    let names = match names.len() {
        0..=NAMES_MAX => names.join(" "),
        count => format!("{} … {} more", names[..NAMES_MAX].join(" "), count - NAMES_MAX),
    };
    let result = record.failure.as_ref().map_or("done".to_owned(), |failure| failure.why.clone());
    Item { record, names, result }
}
