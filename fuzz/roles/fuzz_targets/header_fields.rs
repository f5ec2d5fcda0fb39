#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouchsafe_gateway::fuzzed::header_fields(bytes));
