//! A load generator for vhost-user-blk back ends: one queue, a fixed depth, one kind of load; one line of figures.
//!
//! `vhost-load --socket PATH --rw read --depth 32 --seconds 5` polls; with `--event` it sleeps between completions, as a
//! guest does. Latencies are from the submission to the sight of the answer, in buckets 6 % wide.
//! `--pid PID` adds what the back end's process has used of the CPU for each request.

#[path = "../tests/vhost_client/mod.rs"]
mod vhost_client;

use clap::{Parser, ValueEnum};
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vhost_client::{Ask, Driver};

/// Microseconds of CPU in a tick of /proc: 100 a second on Linux.
const TICK_US: f64 = 10_000.0;
/// How long a back end may be silent.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Random reads
    Read,
    /// Random writes
    Write,
    /// Random, 70 reads to 30 writes
    Mix,
    /// Every block once, in an order without neighbours; ends with the last
    First,
    /// Reads in order
    Sequential,
}

#[derive(Debug, Parser)]
struct Options {
    #[arg(long)]
    socket: PathBuf,
    #[arg(long, value_enum)]
    rw: Load,
    #[arg(long, default_value_t = 32)]
    depth: usize,
    /// Bytes of a request
    #[arg(long, default_value_t = 4096)]
    block: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Bytes of the disk to use; by default all
    #[arg(long)]
    size: Option<u64>,
    /// Sleep between completions
    #[arg(long)]
    event: bool,
    /// The back end's process
    #[arg(long)]
    pid: Option<u32>,
}

/// Counts of latencies; 16 buckets for each power of two of nanoseconds.
struct Histogram(Vec<u64>);

impl Histogram {
    fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(16);
        let power = 63 - nanoseconds.leading_zeros();
        let part = nanoseconds >> (power - 4) & 15;
        let bucket = u64::from(power) * 16 + part;
        self.0[usize::try_from(bucket).expect("at most 1023")] += 1;
    }

    /// Microseconds.
    fn percentile(&self, percent: f64) -> f64 {
        let all: u64 = self.0.iter().sum();
        let wanted = (number(all) * percent / 100.0).ceil();
        let mut seen = 0.0;
        for (bucket, count) in (0_u32..).zip(&self.0) {
            seen += number(*count);
            if seen >= wanted && *count > 0 {
                let base = 2_f64.powi(i32::try_from(bucket / 16).expect("at most 63"));
                return base * (1.0 + f64::from(bucket % 16) / 16.0) / 1000.0;
            }
        }
        0.0
    }
}

/// Exact for every count there is.
fn number(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).expect("the upper half");
    let low = u32::try_from(count & u64::from(u32::MAX)).expect("the lower half");
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

struct Generator {
    load: Load,
    block: u64,
    blocks: u64,
    issued: u64,
    state: u64,
}

impl Generator {
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn next(&mut self) -> Option<Ask> {
        let length = usize::try_from(self.block).ok()?;
        let number = self.issued;
        self.issued += 1;
        let at = match self.load {
            Load::First if number >= self.blocks => return None,
            // An odd factor visits every number below a power of two once.
            Load::First => number.wrapping_mul(2_654_435_761) & (self.blocks - 1),
            Load::Sequential => number % self.blocks,
            Load::Read | Load::Write | Load::Mix => self.random() % self.blocks,
        };
        let offset = at * self.block;
        let is_read = match self.load {
            Load::Read | Load::Sequential => true,
            Load::Write | Load::First => false,
            Load::Mix => self.random() % 10 < 7,
        };
        Some(if is_read { Ask::Read { offset, length } } else { Ask::Write { offset, length } })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mut driver = Driver::connect(&options.socket, options.depth, options.block)?;
    let size = options.size.unwrap_or(u64::MAX).min(driver.capacity());
    let block = u64::try_from(options.block)?;
    let mut blocks = size / block;
    if options.rw == Load::First {
        // A power of two, see `Generator::next`.
        blocks = 1 << blocks.ilog2();
    }
    let mut generator =
        Generator { load: options.rw, block, blocks, issued: 0, state: 0x9E37_79B9_7F4A_7C15 };
    for slot in 0..options.depth {
        driver.fill(slot, &vec![u8::try_from(slot % 251)? + 1; options.block]);
    }
    let cpu_before = cpu_ticks(options.pid);
    let run = run(&mut driver, &mut generator, &options)?;
    let cpu = number(cpu_ticks(options.pid) - cpu_before) * TICK_US;
    let iops = number(run.count) / run.took.as_secs_f64();
    let (median, high) = (run.latencies.percentile(50.0), run.latencies.percentile(99.0));
    let per_request = if options.pid.is_some() { cpu / number(run.count) } else { 0.0 };
    println!(
        "iops={iops:.0} p50_us={median:.1} p99_us={high:.1} cpu_us={per_request:.2} requests={}",
        run.count
    );
    Ok(())
}

struct Run {
    count: u64,
    took: Duration,
    latencies: Histogram,
}

#[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
fn run(driver: &mut Driver, generator: &mut Generator, options: &Options) -> Result<Run, Box<dyn Error>> {
    let mut latencies = Histogram(vec![0; 1024]);
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.seconds);
    let (mut begun, mut last_answer) = (vec![start; options.depth], start);
    let (mut free, mut answers): (Vec<usize>, Vec<(usize, i32)>) = ((0..options.depth).collect(), Vec::new());
    let (mut count, mut in_flight, mut done) = (0_u64, 0, false);
    loop {
        let now = Instant::now();
        done |= options.rw != Load::First && now >= end;
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
                driver.wait(1000)?;
            }
            if now.duration_since(last_answer) > SILENCE {
                return Err("the back end does not answer any more".into());
            }
            continue;
        }
        last_answer = Instant::now();
        for (slot, answer) in answers.drain(..) {
            if answer != 0 {
                return Err(format!("a request failed with {answer}").into());
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
