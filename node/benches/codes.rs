//! What does a node's own work cost, without the network?
//!
//! `cargo bench -p suiyue-node`: load time and memory of a million holders, then nanoseconds for
//! each shown and each verified code, on one thread.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use suiyue_node::clock::Clock;
use suiyue_node::codes::issue::Issuer;
use suiyue_node::codes::live::LiveCodes;
use suiyue_node::codes::verify::Verifier;
use suiyue_node::keys::own::Own;
use suiyue_node::keys::ring::Ring;
use suiyue_node::population;
use suiyue_node::status::table::Table;
use suiyue_proto::region::Code;

const HOLDERS: u64 = 1_000_000;
const CALLS: u64 = 20_000;

fn main() {
    let region = Code::new(440_100).expect("Guangzhou has a code");
    let before = resident_bytes();
    let began = Instant::now();
    let table = Arc::new(Table::new(&[region]));
    table.reserve(region, HOLDERS);
    for index in 0..HOLDERS {
        table.load(&population::holder(region, index, 1));
    }
    println!("load {HOLDERS} holders   {:.2} s", began.elapsed().as_secs_f64());
    println!("memory per holder     {} bytes", resident_bytes().saturating_sub(before) / HOLDERS);

    let mut lines = Vec::new();
    for index in 0..HOLDERS {
        population::write_line(&mut lines, &population::holder(region, index, 1)).expect("memory");
    }
    let began = Instant::now();
    let read = population::read_lines("memory", &mut lines.as_slice(), |holder| table.load(&holder));
    println!("read {} lines    {:.2} s", read.expect("lines of ours"), began.elapsed().as_secs_f64());
    drop(lines);

    let clock = Clock::System;
    let keys = Arc::new(Own::open(None, &[region], &clock).expect("keys in memory"));
    let ring = Arc::new(Ring::default());
    ring.set_own(keys.verifying());
    let live = Arc::new(LiveCodes::default());
    let issuer = Issuer { keys, table: Arc::clone(&table), live: Arc::clone(&live), clock: clock.clone() };
    let verifier = Verifier { ring, table, live, clock, foreign: Vec::new() };

    let began = Instant::now();
    let codes: Vec<_> = (0..CALLS)
        .map(|index| population::subject(region, index * 49, 1))
        .map(|subject| issuer.issue(region, &subject).expect("a loaded holder").text)
        .collect();
    report("show", began);
    let began = Instant::now();
    for code in &codes {
        black_box(verifier.verify(black_box(code)));
    }
    report("verify", began);
}

fn report(what: &str, began: Instant) {
    println!("{what:<21} {} ns", began.elapsed().as_nanos() / u128::from(CALLS));
}

/// Resident memory of this process, from `/proc`; 0 where there is none.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
