#![no_main]

#[allow(dead_code, reason = "each driver calls one")]
#[path = "../control.rs"]
mod control;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| control::tlog_note(bytes));
