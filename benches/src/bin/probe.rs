//! Runs the parts that micro benchmarks measure, under callgrind or a counting allocator.

use std::{env, hint::black_box, process::ExitCode};

use anyhow::Result;
use mirror_bench::micro::{
    in_steady_state,
    probe::{ALLOCATIONS, INSTRUCTIONS, instruction_parts, passes},
};

fn main() -> Result<ExitCode> {
    match env::args().nth(1).as_deref() {
        Some(INSTRUCTIONS) => {
            for part in instruction_parts() {
                let mut pass = part.pass()?;
                // The first frames fill tables and caches.
                pass();
                black_box(separated_part_of_the_probe(&mut *pass, passes(part)));
            }
        }
        Some(ALLOCATIONS) => {
            println!("{}", in_steady_state(|work| allocation_counter::measure(work).count_total)?);
        }
        _ => {
            eprintln!("usage: mirror-bench-probe {INSTRUCTIONS}|{ALLOCATIONS}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Callgrind writes its counts after this function, which must do something after the call, or the call would
/// be a tail call.
#[inline(never)]
fn separated_part_of_the_probe(pass: &mut dyn FnMut(), passes: u64) -> u64 {
    part_of_the_probe(pass, passes);
    black_box(passes)
}

/// Callgrind counts in this function and its callees.
#[inline(never)]
fn part_of_the_probe(pass: &mut dyn FnMut(), passes: u64) {
    for _ in 0..passes {
        pass();
    }
}
