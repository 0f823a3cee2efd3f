//! Every target, for libFuzzer: one program, because it is linked once. `MAESTRO_FUZZ` names the target that runs,
//! `MAESTRO_FUZZ_EXAMPLES` the folder that its examples are written to before it starts.

#![no_main]

use std::sync::OnceLock;

use maestro_fuzz::{TARGETS, Target};

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fn choose() -> &'static Target {
    let name = std::env::var("MAESTRO_FUZZ").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("MAESTRO_FUZZ names no target; there are: {}", names.join(" "));
        std::process::exit(2);
    };
    if let Some(folder) = std::env::var_os("MAESTRO_FUZZ_EXAMPLES") {
        let folder = std::path::PathBuf::from(folder);
        for (index, example) in (target.examples)().iter().enumerate() {
            std::fs::write(folder.join(format!("example-{index}")), example).expect("the folder of the examples");
        }
    }
    target
}

libfuzzer_sys::fuzz_target!(
    init: {
        CHOSEN.set(choose()).ok();
    },
    |data: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.check)(data);
        }
    }
);
