//! Does the parts that micro benchmarks measure, where callgrind or a counting allocator looks on.

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
                // Tables and caches of a part fill with its first frames.
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

/// After this function callgrind writes what it has counted. It does something after the call, or its frame
/// would be that of the one it calls.
#[inline(never)]
fn separated_part_of_the_probe(pass: &mut dyn FnMut(), passes: u64) -> u64 {
    part_of_the_probe(pass, passes);
    black_box(passes)
}

/// Callgrind counts in this function and what it calls.
#[inline(never)]
fn part_of_the_probe(pass: &mut dyn FnMut(), passes: u64) {
    for _ in 0..passes {
        pass();
    }
}
