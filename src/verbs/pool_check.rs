//! `offshoot pool check`: walks everything. Exit codes as qemu-img check: 0 clean, 2 errors, 3 leaked blocks only.

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::local_pool::Demand;
use crate::output::{Format, Style, print, print_json, print_json_line};
use crate::pool_choice::PoolChoice;
use crate::reach::unexpected;
use crate::size::GRAIN_BYTES;
use crate::wire::{Answer, Ask, CheckView};
use std::fmt::Write as _;
use std::process::ExitCode;

const CLEAN: u8 = 0;
const ERRORS: u8 = 2;
const LEAKS: u8 = 3;

pub(super) fn run(pool: &PoolChoice, accept_lost_writes: bool, style: Style) -> Result<ExitCode, Failure> {
    let demand = Demand { read_only: false, accept_lost_writes };
    let interrupt = Interrupt::watch()?;
    let report = pool.with(demand, |reach| match reach.ask_patiently(Ask::Check, interrupt)? {
        Answer::Checked(report) => Ok(report),
        other => Err(unexpected(&other)),
    })?;
    match style.format {
        Format::Json => print_json("CheckReport", &report)?,
        Format::Jsonl => print_json_line("CheckReport", &report)?,
        _ => print(&text(&report, style))?,
    }
    Ok(ExitCode::from(code(&report)))
}

fn code(report: &CheckView) -> u8 {
    match (report.errors.is_empty(), report.leaked_blocks) {
        (false, _) => ERRORS,
        (true, 0) => CLEAN,
        (true, _) => LEAKS,
    }
}

fn text(report: &CheckView, style: Style) -> String {
    let mut text = String::new();
    for error in &report.errors {
        writeln!(text, "damage: {error}").expect("a string takes all");
    }
    if report.leaked_blocks > 0 {
        let bytes = style.size(report.leaked_blocks.saturating_mul(GRAIN_BYTES));
        writeln!(text, "leaked: {} blocks ({bytes}) belong to nobody", report.leaked_blocks)
            .expect("a string takes all");
    }
    let verdict = match (report.errors.len(), report.leaked_blocks) {
        (0, 0) => "clean".to_owned(),
        (0, _) => "no data is damaged".to_owned(),
        (errors, _) => format!("{errors} errors"),
    };
    writeln!(text, "{verdict}: {} blocks checked", report.blocks_checked).expect("a string takes all");
    text
}

#[cfg(test)]
mod tests {
    use super::{code, text};
    use crate::output::{Format, Style};
    use crate::wire::CheckView;

    #[test]
    fn exit_codes_are_those_of_qemu_img_check() {
        let report = |errors: &[&str], leaked_blocks| CheckView {
            errors: errors.iter().map(|error| (*error).to_owned()).collect(),
            leaked_blocks,
            blocks_checked: 9,
        };
        let style = Style { format: Format::Table, exact_bytes: false };
        let shown = |report: CheckView| (code(&report), text(&report, style));
        assert_eq!(shown(report(&[], 0)), (0, "clean: 9 blocks checked\n".to_owned()));
        let leaks = "leaked: 2 blocks (8 KiB) belong to nobody\nno data is damaged: 9 blocks checked\n";
        assert_eq!(shown(report(&[], 2)), (3, leaks.to_owned()));
        assert_eq!(shown(report(&["x"], 0)), (2, "damage: x\n1 errors: 9 blocks checked\n".to_owned()));
        assert_eq!(code(&report(&["x"], 2)), 2, "an error outweighs a leak");
    }
}
