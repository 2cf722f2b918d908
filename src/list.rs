//! Lists: the same items as a table, CSV, JSON, lines of JSON or names, in the columns and the order that were asked for. An
//! item is the JSON object that programs get; a column shows one of its keys.

use crate::arguments::View;
use crate::failure::{Code, Failure};
use crate::output::{Format, Style, Table, print, print_json, print_json_line, time};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A key of the items, and how people see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) key: &'static str,
    /// A heading that starts with '>' is flushed right.
    pub(crate) heading: &'static str,
    pub(crate) shown: Shown,
    /// Only in wide tables.
    pub(crate) is_extra: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Text,
    /// Bytes.
    Size,
    /// Seconds.
    Time,
    /// True is yes, false nothing.
    Flag,
    /// A ratio, such as of overcommit.
    Ratio,
}

pub(crate) const fn column(key: &'static str, heading: &'static str, shown: Shown) -> Column {
    Column { key, heading, shown, is_extra: false }
}

pub(crate) const fn extra(key: &'static str, heading: &'static str, shown: Shown) -> Column {
    Column { key, heading, shown, is_extra: true }
}

/// `kind` is that of the document; the first column has the names.
pub(crate) fn print_list<T: Serialize>(
    kind: &'static str,
    columns: &[Column],
    items: &[T],
    view: &View,
) -> Result<(), Failure> {
    let mut items: Vec<Map<String, Value>> = items.iter().map(object).collect();
    if let Some(selector) = &view.selector {
        items.retain(|item| selector.matches(&labels(item)));
    }
    let name = columns.first().map_or("name", |column| column.key);
    let columns = choose(columns, view, items.first())?;
    if let Some(sort) = &view.sort {
        let (key, is_down) = sort.strip_prefix('-').map_or((sort.as_str(), false), |key| (key, true));
        require(&columns, items.first(), key)?;
        items.sort_by(|one, other| {
            let order = compare(one.get(key), other.get(key));
            if is_down { order.reverse() } else { order }
        });
    }
    if !view.columns.is_empty() && view.output.is_json() {
        items.iter_mut().for_each(|item| item.retain(|key, _| view.columns.contains(key)));
    }
    match view.output {
        Format::Json => print_json(kind, &json!({ "items": items })),
        Format::Jsonl => {
            let kind = kind.strip_suffix("List").unwrap_or(kind);
            items.iter().try_for_each(|item| print_json_line(kind, item))
        }
        Format::Name => print(&names(name, &items)),
        Format::Csv => print(&csv(&columns, &items, view)),
        Format::Table | Format::Wide => print(&table(&columns, &items, view)),
    }
}

fn object<T: Serialize>(item: &T) -> Map<String, Value> {
    match serde_json::to_value(item) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn labels(item: &Map<String, Value>) -> BTreeMap<String, String> {
    let labels = item.get("labels").and_then(Value::as_object);
    let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(pair).collect()
}

/// A column that people see, or one that was asked for by its key.
#[derive(Debug, Clone)]
struct Chosen {
    key: String,
    heading: String,
    shown: Shown,
}

fn choose(
    columns: &[Column],
    view: &View,
    first: Option<&Map<String, Value>>,
) -> Result<Vec<Chosen>, Failure> {
    let known = |column: &Column| Chosen {
        key: column.key.to_owned(),
        heading: column.heading.to_owned(),
        shown: column.shown,
    };
    if view.columns.is_empty() {
        let is_wide = !matches!(view.output, Format::Table);
        return Ok(columns.iter().filter(|column| is_wide || !column.is_extra).map(known).collect());
    }
    let all: Vec<Chosen> = columns.iter().map(known).collect();
    let choose = |key: &String| {
        require(&all, first, key)?;
        let found = all.iter().find(|column| column.key == *key).cloned();
        let plain =
            || Chosen { key: key.clone(), heading: key.to_uppercase().replace('_', " "), shown: Shown::Text };
        Ok(found.unwrap_or_else(plain))
    };
    view.columns.iter().map(choose).collect()
}

/// An item that is there tells which keys there are beside the columns.
fn require(columns: &[Chosen], first: Option<&Map<String, Value>>, key: &str) -> Result<(), Failure> {
    let is_known = columns.iter().any(|column| column.key == key);
    // Where there is nothing, nothing says which other keys there would be.
    if is_known || first.is_none_or(|item| item.contains_key(key)) {
        return Ok(());
    }
    let keys = first.map(|item| item.keys().cloned().collect::<Vec<_>>());
    let keys = keys.unwrap_or_else(|| columns.iter().map(|column| column.key.clone()).collect());
    let why = format!("there is no column {:?}", key.chars().take(40).collect::<String>());
    Err(Failure::new(Code::Usage, "nothing was listed", why, keys.join(", ")))
}

/// Numbers as numbers; what is missing comes first.
fn compare(one: Option<&Value>, other: Option<&Value>) -> Ordering {
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => plain(one).cmp(&plain(other)),
    }
}

/// Exact, and without quotes.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(object)) => {
            let pair = |(key, value): (&String, &Value)| format!("{key}={}", plain(Some(value)));
            object.iter().map(pair).collect::<Vec<_>>().join(",")
        }
        Some(Value::Array(items)) => items.iter().map(|item| plain(Some(item))).collect::<Vec<_>>().join(","),
        Some(other) => other.to_string(),
    }
}

fn names(key: &str, items: &[Map<String, Value>]) -> String {
    items.iter().map(|item| plain(item.get(key)) + "\n").collect()
}

fn csv(columns: &[Chosen], items: &[Map<String, Value>], view: &View) -> String {
    let quote = |text: String| {
        let needs_quotes = text.contains([',', '"', '\n', '\r']);
        if needs_quotes { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    let row = |cells: Vec<String>| cells.into_iter().map(quote).collect::<Vec<_>>().join(",") + "\r\n";
    let heading = (!view.no_headers).then(|| row(columns.iter().map(|column| column.key.clone()).collect()));
    let rows =
        items.iter().map(|item| row(columns.iter().map(|column| plain(item.get(&column.key))).collect()));
    heading.into_iter().chain(rows).collect()
}

fn table(columns: &[Chosen], items: &[Map<String, Value>], view: &View) -> String {
    let style = Style { format: view.output, exact_bytes: view.bytes };
    let headings: Vec<&str> = columns.iter().map(|column| column.heading.as_str()).collect();
    let mut table = Table::new(&headings);
    for item in items {
        table.row(columns.iter().map(|column| cell(item.get(&column.key), column.shown, style)).collect());
    }
    if view.no_headers { table.render_rows() } else { table.render() }
}

fn cell(value: Option<&Value>, shown: Shown, style: Style) -> String {
    let text = match (shown, value) {
        (_, None | Some(Value::Null)) => String::new(),
        (Shown::Size, Some(value)) => value.as_u64().map(|bytes| style.size(bytes)).unwrap_or_default(),
        (Shown::Time, Some(value)) => value.as_f64().map(time).unwrap_or_default(),
        (Shown::Ratio, Some(value)) => value.as_f64().map(|ratio| format!("{ratio:.1}x")).unwrap_or_default(),
        (Shown::Flag, Some(value)) => {
            if value == &Value::Bool(true) {
                "yes".to_owned()
            } else {
                String::new()
            }
        }
        (Shown::Text, Some(value)) => plain(Some(value)),
    };
    if text.is_empty() { "-".to_owned() } else { text.replace(|c: char| c.is_control(), " ") }
}

#[cfg(test)]
mod tests {
    use super::{Shown, choose, column, compare, csv, extra, names, object, table};
    use crate::arguments::View;
    use crate::output::Format;
    use serde_json::{Map, Value, json};
    use std::cmp::Ordering;

    const COLUMNS: [super::Column; 3] = [
        column("name", "NAME", Shown::Text),
        column("size", ">SIZE", Shown::Size),
        extra("used", "IN USE", Shown::Flag),
    ];

    fn view(output: Format) -> View {
        View {
            output,
            bytes: false,
            columns: Vec::new(),
            sort: None,
            no_headers: false,
            selector: None,
            watch: None,
        }
    }

    fn items() -> Vec<Map<String, Value>> {
        let item = |name: &str, size: u64| {
            object(&json!({ "name": name, "size": size, "used": true, "other": "x,y" }))
        };
        vec![item("a", 9 << 20), item("b\"c", 10 << 20)]
    }

    #[test]
    fn one_list_has_many_forms() {
        let (items, narrow) = (items(), view(Format::Table));
        let columns = choose(&COLUMNS, &narrow, items.first()).expect("columns");
        assert_eq!(table(&columns, &items, &narrow), "NAME    SIZE\na      9 MiB\nb\"c   10 MiB\n");
        assert_eq!(names("name", &items), "a\nb\"c\n");
        let wide = view(Format::Csv);
        let columns = choose(&COLUMNS, &wide, items.first()).expect("columns");
        assert_eq!(
            csv(&columns, &items, &wide),
            "name,size,used\r\na,9437184,true\r\n\"b\"\"c\",10485760,true\r\n"
        );
        let asked = View { columns: vec!["other".to_owned()], no_headers: true, ..view(Format::Csv) };
        let columns = choose(&COLUMNS, &asked, items.first()).expect("columns");
        assert_eq!(csv(&columns, &items, &asked), "\"x,y\"\r\n\"x,y\"\r\n");
        let wrong = View { columns: vec!["nothing".to_owned()], ..view(Format::Table) };
        assert!(choose(&COLUMNS, &wrong, items.first()).expect_err("no column").next.contains("name"));
    }

    #[test]
    fn numbers_are_in_the_order_of_numbers() {
        assert_eq!(compare(Some(&json!(9)), Some(&json!(10))), Ordering::Less);
        assert_eq!(compare(Some(&json!("b")), Some(&json!("a"))), Ordering::Greater);
        assert_eq!(compare(None, Some(&json!(1))), Ordering::Less);
    }
}
