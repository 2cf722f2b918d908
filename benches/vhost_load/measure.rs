//! One kind of load for some time, and its figures. Latencies are from the submission to the sight of the answer.

use super::failure::Failure;
use super::generator::{Generator, Load};
use super::histogram::{Histogram, number};
use super::vhost_client::Driver;
use super::{Options, now};
use std::time::Duration;

/// Microseconds of CPU in a tick of /proc: 100 a second on Linux.
const TICK_US: f64 = 10_000.0;
/// Milliseconds of sleep without an answer.
const SLEEP_MS: i64 = 1000;

pub(crate) fn run(options: &Options, load: Load) -> Result<(), Failure> {
    let mut driver = Driver::connect(&options.socket, options.depth, options.block)?;
    let blocks = options.blocks(driver.capacity()).map_err(Failure::Unfit)?;
    let mut generator = Generator::new(load, options.block, blocks);
    for (slot, byte) in (0..options.depth).zip((1..=251).cycle()) {
        driver.fill(slot, &vec![byte; options.block]);
    }
    let cpu_before = cpu_ticks(options.pid);
    let run = measure(&mut driver, &mut generator, options)?;
    let cpu = number(cpu_ticks(options.pid) - cpu_before) * TICK_US;
    let iops = number(run.count) / run.took.as_secs_f64();
    let [p50, p90, p99, p999, most] =
        [50.0, 90.0, 99.0, 99.9, 100.0].map(|percent| run.latencies.percentile(percent));
    let per_request = if options.pid.is_some() { cpu / number(run.count) } else { 0.0 };
    println!(
        "iops={iops:.0} p50_us={p50:.1} p90_us={p90:.1} p99_us={p99:.1} p999_us={p999:.1} max_us={most:.1} \
         cpu_us={per_request:.2} requests={}",
        run.count
    );
    Ok(())
}

struct Run {
    count: u64,
    took: Duration,
    latencies: Histogram,
}

fn measure(driver: &mut Driver, generator: &mut Generator, options: &Options) -> Result<Run, Failure> {
    let mut latencies = Histogram::new();
    let start = now();
    let end = start + options.seconds;
    let (mut begun, mut last_answer) = (vec![start; options.depth], start);
    let (mut free, mut answers): (Vec<usize>, Vec<(usize, i32)>) = ((0..options.depth).collect(), Vec::new());
    let (mut count, mut in_flight, mut done) = (0_u64, 0, false);
    loop {
        let now = now();
        done |= now >= end;
        let mut any = false;
        while !done && let Some(slot) = free.pop() {
            let Some(ask) = generator.next() else {
                done = true;
                break;
            };
            driver.submit(slot, ask)?;
            begun[slot] = now;
            in_flight += 1;
            any = true;
        }
        if any {
            driver.kick()?;
        }
        if in_flight == 0 {
            return Ok(Run { count, took: start.elapsed(), latencies });
        }
        driver.answers(&mut answers);
        if answers.is_empty() {
            if options.event {
                driver.wait(SLEEP_MS)?;
            } else {
                std::hint::spin_loop();
            }
            if now.duration_since(last_answer) > options.patience {
                return Err(Failure::Silent);
            }
            continue;
        }
        last_answer = super::now();
        for (slot, answer) in answers.drain(..) {
            if answer != 0 {
                return Err(Failure::Refused { what: "a request".to_owned(), answer });
            }
            latencies.add(last_answer - begun[slot]);
            free.push(slot);
            count += 1;
            in_flight -= 1;
        }
    }
}

/// User and system time of a process, in ticks.
fn cpu_ticks(pid: Option<u32>) -> u64 {
    let stat = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    let ticks = stat.and_then(|stat| {
        // The name in parentheses may hold spaces.
        let fields: Vec<u64> =
            stat.rsplit(')').next()?.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        Some(fields.get(11)? + fields.get(12)?)
    });
    ticks.unwrap_or(0)
}
