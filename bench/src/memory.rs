//! Memory of processes.

use std::fs;

use crate::cpu;

/// Resident memory of a process and its children.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let of_one = |pid: u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    cpu::family(pid).into_iter().filter_map(of_one).sum()
}
