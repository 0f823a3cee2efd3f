#!/usr/bin/env bash
# cargo's RUSTC_WRAPPER: what libFuzzer needs to see is compiled with counters of its branches and comparisons, the rest as always.
case " $* " in
*" --crate-name maestro "* | *" --crate-name maestro_fuzz "* | *" --crate-name any "*)
    exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*) exec "$@" ;;
esac
