//! Disks that are full, and disks that are slow.

mod full;
mod slow;

pub use slow::Disk;
