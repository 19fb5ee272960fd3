//! The kernel is the judge: random rules and routes are programmed into a fresh network namespace, captured
//! with the reference commands, and every answer of the model is compared with `ip route get`.
//!
//! `KNET_SEED=N` replays one seed, `KNET_SEEDS=N` sets how many are run. Needs root, `unshare`, `nsenter`
//! and `ip`; without them the test says `KNET-SKIP` and passes.

mod judge;
mod lab;
mod random;

use judge::Tally;
use lab::Lab;
use random::Rng;

/// Lookups of each kind per seed.
const PER_SEED: usize = 800;

#[test]
fn the_model_answers_as_the_kernel() {
    if let Err(why) = Lab::possible() {
        println!("KNET-SKIP kernel_routes: {why}");
        return;
    }
    let number = |key: &str| std::env::var(key).ok().and_then(|s| s.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("KNET_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("KNET_SEEDS").unwrap_or(12)).collect(),
    };
    let mut total = Tally::default();
    let mut wrong = Vec::new();
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let lab = Lab::new(&random::namespace(&mut rng));
        let snapshot = lab.capture();
        let asks: Vec<_> = (0..PER_SEED).map(|_| random::ask(&mut rng)).collect();
        let said = lab.route_get(&asks);
        let (tally, failures) = judge::compare(&snapshot, &asks, &said);
        println!("seed {seed}: {tally:?}");
        for f in failures.iter().take(8) {
            println!("  seed {seed}: {f}");
        }
        wrong.extend(failures.into_iter().map(|f| format!("seed {seed}: {f}")));
        total.add(&tally);
    }
    println!("KNET-RAN kernel_routes {} lookups: {total:?}", total.lookups);
    assert!(
        wrong.is_empty(),
        "{} of {} answers differ from the kernel's",
        wrong.len(),
        total.lookups
    );
    assert!(
        total.routed * 4 > total.lookups,
        "most lookups must find a route, or little is tested"
    );
}
