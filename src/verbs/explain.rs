//! `offshoot explain CODE`: what an error code means, and what helps.

use crate::arguments::View;
use crate::failure::{Code, Failure};
use crate::list::{Column, Shown, column, print_list};
use crate::output::{Format, print, print_json, print_json_line};
use crate::reason::Reason;
use serde_json::{Value, json};

const COLUMNS: [Column; 3] = [
    column("reason", "CODE", Shown::Text),
    column("exit_code", ">EXIT", Shown::Text),
    column("title", "WHAT IT IS", Shown::Text),
];

pub(super) fn run(code: Option<&str>, view: &View) -> Result<(), Failure> {
    let Some(text) = code else {
        let items: Vec<Value> = Reason::ALL.iter().map(|reason| document(*reason)).collect();
        return print_list("ReasonList", &COLUMNS, &items, view);
    };
    let Some(reason) = Reason::find(text) else {
        let shown: String = text.chars().take(40).collect();
        let why = format!("{shown:?} is no code of Offshoot");
        return Err(Failure::new(Code::NotFound, "nothing was explained", why, "offshoot explain"));
    };
    match view.output {
        Format::Json => print_json("Reason", &document(reason)),
        Format::Jsonl => print_json_line("Reason", &document(reason)),
        _ => print(&format!(
            "{}: {}  (exit code {})\n\n{}\n\nWhat helps: {}\n",
            reason.identifier(),
            reason.title(),
            reason.code().number(),
            reason.meaning(),
            reason.helps()
        )),
    }
}

fn document(reason: Reason) -> Value {
    json!({
        "reason": reason.identifier(),
        "exit_code": reason.code().number(),
        "title": reason.title(),
        "meaning": reason.meaning(),
        "helps": reason.helps(),
    })
}
