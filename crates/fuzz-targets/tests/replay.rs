//! Every input that is kept is run by its target, and its memory is counted.
//!
//! `fuzz/seeds/TARGET/` has an input a file. The captures of real servers are inputs too, and
//! every kept input is also run cut short, and with each of a few bytes changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use walpost_fuzz_targets::{TARGETS, Target};

/// What an input may take beside its target's own limit.
const BYTES_MAX: usize = 1 << 20;

/// What is decoded may take so many times the bytes that it came in.
const TIMES_MAX: usize = 64;

/// Of a longer input not every byte is changed.
const CHANGES_MAX: usize = 32;

#[test]
fn kept_inputs_and_their_neighbours_show_no_fault_and_take_little_memory() {
    for target in TARGETS {
        let seeds = seeds(target.name);
        assert!(!seeds.is_empty(), "fuzz/seeds/{} is empty", target.name);
        // What lives for long is made by the first one.
        (target.run)(&seeds[0]);
        for seed in &seeds {
            check(target, seed);
            for neighbour in neighbours(seed) {
                check(target, &neighbour);
            }
        }
    }
}

#[test]
fn an_input_that_takes_more_than_its_limit_is_found() {
    let greedy = Target {
        name: "greedy",
        run: |input| drop(vec![0_u8; input.len() << 21]),
        bytes_max: 1 << 20,
    };
    let found = std::panic::catch_unwind(|| check(&greedy, b"ab"));
    assert!(found.is_err());
}

/// Runs one input, and counts what it holds at once.
fn check(target: &Target, input: &[u8]) {
    let used = allocation_counter::measure(|| (target.run)(input));
    let used = usize::try_from(used.bytes_max).expect("a machine's memory");
    let most = target.bytes_max + BYTES_MAX + TIMES_MAX * input.len();
    assert!(
        used <= most,
        "{} takes {used} bytes, and {most} at most, for {}",
        target.name,
        input.escape_ascii()
    );
}

/// The inputs of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("fuzz/seeds").join(target))
        .expect("the target's seeds")
        .map(|entry| entry.expect("a seed").path())
        .collect();
    files.sort();
    let mut seeds: Vec<_> = files
        .iter()
        .map(|file| fs::read(file).expect("a seed"))
        .collect();
    let captured = root.join("crates/pgoutput/tests/golden");
    match target {
        "pgoutput" => {
            seeds.extend(captures(&captured.join("text.hex")));
            seeds.extend(captures(&captured.join("binary.hex")));
        }
        "copy_message" => seeds.extend(captures(&captured.join("stream.hex"))),
        _ => {}
    }
    seeds
}

/// The last column of each line, in hex.
fn captures(file: &Path) -> impl Iterator<Item = Vec<u8>> {
    let text = fs::read_to_string(file).expect("a capture");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let bytes = |line: &&str| {
        let hex = line.rsplit(' ').next().expect("a column");
        let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16)).collect();
        let pairs = digits.chunks(2).map(|pair| {
            let byte = pair[0].expect("hex") * 16 + pair[1].expect("hex");
            u8::try_from(byte).expect("two digits")
        });
        pairs.collect::<Vec<_>>()
    };
    lines.iter().map(bytes).collect::<Vec<_>>().into_iter()
}

/// The input cut short, and with bytes changed to what lengths, counts and tags are wrong by.
fn neighbours(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let step = seed.len().div_ceil(CHANGES_MAX).max(1);
    let cut = (0..seed.len())
        .step_by(step)
        .map(|end| seed[..end].to_vec());
    let changed = (0..seed.len()).step_by(step).flat_map(|at| {
        [0, 0x7f, 0xff].map(|byte| {
            let mut input = seed.to_vec();
            input[at] = byte;
            input
        })
    });
    cut.chain(changed)
}
