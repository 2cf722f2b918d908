//! Clones of one golden image, one and a thousand in one command: planned, staged, applied and made durable.

mod stand;

use criterion::{Criterion, criterion_group, criterion_main};
use stand::{MIB, Stand, n};
use std::time::{Duration, Instant};
use thinpool::{Command, Name};

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

/// `rounds` commands of `count` clones each; removing them is not counted.
fn clones(stand: &mut Stand, count: usize, rounds: u64) -> Duration {
    let names: Vec<Name> = (0..count).map(|number| n(&format!("desk-{number:04}"))).collect();
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let command = Command::Clone { source: n("golden@v1"), names: names.clone(), size: None };
        total += timed(|| stand.run(command));
        for name in &names {
            stand.run(Command::Remove { name: name.clone(), recursive: false });
        }
        stand.run(Command::Settle);
    }
    total
}

fn bench(criterion: &mut Criterion) {
    let mut stand = Stand::new(1024 * MIB);
    stand.golden();
    let mut group = criterion.benchmark_group("clone");
    group.sample_size(10);
    for count in [1, 1000] {
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter_custom(|rounds| clones(&mut stand, count, rounds));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
