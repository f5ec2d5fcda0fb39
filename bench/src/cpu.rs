//! CPU time of processes, from the scheduler's accounting (`/proc/<pid>/task/<tid>/schedstat`, nanoseconds).

use std::fs;
use std::time::Duration;

/// Keeps this process, and all threads and children that it will have, on the second processor; the
/// first is left to what is measured.
pub(crate) fn stay_beside() -> Result<(), Box<dyn std::error::Error>> {
    let own = std::process::id().to_string();
    let pinned = std::process::Command::new("taskset").args(["-cp", "1", &own]).output()?;
    if pinned.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&pinned.stderr).into()) }
}

/// CPU time of these processes and all their children so far.
pub(crate) fn of(pid: u32) -> Duration {
    family(pid).into_iter().map(of_one).sum()
}

/// A process and all its children.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|text| text.parse().ok()) {
        found.extend(family(child));
    }
    found
}

fn of_one(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds = |path: std::path::PathBuf| -> Option<u64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(threads.filter_map(|thread| nanoseconds(thread.path())).sum())
}
