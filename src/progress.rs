//! How far a long command is: a bar on a terminal, a line every tenth elsewhere.

use crate::handler::Watcher;
use crate::interrupt::Interrupt;
use crate::output::say;
use crate::size::Iec;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal};

const TEMPLATE: &str = "{bar:32} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";

pub(crate) struct Progress {
    interrupt: Interrupt,
    bar: Option<ProgressBar>,
    /// Tenths that have been told.
    told: u64,
}

impl Progress {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Self { interrupt, bar, told: 0 }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watcher for Progress {
    fn progress(&mut self, done: u64, total: u64) -> bool {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else {
            let tenths = u64::try_from(u128::from(done) * 10 / u128::from(total.max(1))).unwrap_or(10);
            if tenths > self.told {
                self.told = tenths;
                say(&format!("{} of {} ({} %)", Iec(done), Iec(total), tenths * 10));
            }
        }
        !self.interrupt.is_raised()
    }
}
