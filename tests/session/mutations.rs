//! The fuzz targets on stable: seeded mutations of their examples.

#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code, reason = "names are for libFuzzer")]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\r\n\t :;,0123456789abcdefxX\0\xff{}[]\"-.";

/// One change of `bytes`; `other` is an example to take a part from.
fn mutate(draws: &mut Pcg64Mcg, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = draws.random_range(0..=bytes.len());
    let to = (at + draws.random_range(0..12)).min(bytes.len());
    match draws.random_range(0..8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..to)),
        2 => bytes.insert(at, TELLING[draws.random_range(0..TELLING.len())]),
        3 => bytes.insert(at, draws.random()),
        4 => {
            let again = bytes[at..to].to_vec();
            bytes.splice(at..at, again);
        }
        5 => {
            let from = draws.random_range(0..other.len());
            let part = &other[from..(from + draws.random_range(1..40)).min(other.len())];
            bytes.splice(at..to, part.iter().copied());
        }
        6 => bytes[at..to].iter_mut().for_each(|byte| *byte ^= 1 << draws.random_range(0..8)),
        _ => bytes[at..to].iter_mut().for_each(|byte| *byte = TELLING[draws.random_range(0..TELLING.len())]),
    }
}

#[test]
fn mutated_inputs_are_read_alike() {
    let full = std::env::var_os("MAESTRO_TEST_FULL").is_some();
    // So many inputs, or inputs of so many bytes together.
    let (rounds, most) = if full { (100_000, 1 << 30) } else { (30_000, 1 << 20) };
    for target in targets::TARGETS {
        let examples = (target.examples)();
        examples.iter().for_each(|example| (target.check)(example));
        let mut draws = Pcg64Mcg::seed_from_u64(1);
        let mut read = 0;
        for round in 0..rounds {
            if read > most {
                break;
            }
            let mut bytes = examples[draws.random_range(0..examples.len())].clone();
            for _ in 0..draws.random_range(1..=4) {
                let other = &examples[draws.random_range(0..examples.len())];
                mutate(&mut draws, &mut bytes, other);
            }
            read += bytes.len();
            let shown = bytes.escape_ascii();
            let done = catch_unwind(AssertUnwindSafe(|| (target.check)(&bytes)));
            assert!(done.is_ok(), "{} fails in round {round} on b\"{shown}\"", target.name);
        }
    }
}
