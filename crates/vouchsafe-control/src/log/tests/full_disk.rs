//! A disk without room: a file system of our own in memory; mounting it takes root.

use std::process::Command;

use super::*;

/// A file system of four mebibytes, until it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=4m,mode=0777", "tmpfs", dir.path().to_str().unwrap()]);
        Self(dir)
    }

    /// Leaves so many bytes of room.
    fn fill(&self, left: u64) {
        let room = rustix::fs::statvfs(self.0.path()).unwrap();
        let free = room.f_bfree * room.f_frsize;
        fs::write(self.ballast(), vec![1; usize::try_from(free.saturating_sub(left)).unwrap()]).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["--lazy", self.0.path().to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn i7_on_a_full_disk_nothing_is_taken_in_and_with_room_it_goes_on() {
    const SEGMENT: u64 = 256 * 1024;
    let disk = Disk::mount();
    let dir = disk.0.path().join("audit");
    let log = Log::open_with(&dir, 0, SEGMENT).unwrap();
    let mut taken = 0;
    let mut take_on = |log: &Log, times: usize| -> Result<u64, TakeError> {
        for _ in 0..times {
            taken = log.take_in(GATEWAY, taken + 1, &frames(GATEWAY, taken + 1..=taken + 100))?;
        }
        Ok(taken)
    };
    take_on(&log, 10).unwrap();
    // Room for what is reserved already, and for little beyond it.
    disk.fill(8 * 1024);
    let refused = take_on(&log, 100).unwrap_err();
    let is_full = |error: &TakeError| matches!(error, TakeError::Log(LogError::File { source, .. }) if source.kind() == io::ErrorKind::StorageFull);
    assert!(is_full(&refused), "{refused}: {:?}", std::error::Error::source(&refused));
    let size = log.size();
    assert!(size >= 1_000, "the room of the segment was reserved: {size}");
    // It stays so, and what was acknowledged is there.
    for _ in 0..3 {
        assert!(is_full(&take_on(&log, 1).unwrap_err()));
        while log.index_next(&mut Maker::default()) {}
        assert_eq!(numbers(&log), of(GATEWAY, 1..=size));
    }
    // Nor does a log open that could take nothing.
    drop(log);
    let refused = Log::open_with(&dir, size, SEGMENT).err().unwrap();
    assert!(
        matches!(&refused, LogError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        "{refused}"
    );
    // With room again it goes on where it was.
    fs::remove_file(disk.ballast()).unwrap();
    let log = Log::open_with(&dir, size, SEGMENT).unwrap();
    assert_eq!(take_on(&log, 5).unwrap(), size + 500);
    disk.fill(8 * 1024);
    let refused = take_on(&log, 100).unwrap_err();
    assert!(is_full(&refused), "{refused}");
    let size = log.size();
    fs::remove_file(disk.ballast()).unwrap();
    assert_eq!(take_on(&log, 3).unwrap(), size + 300, "without a start too");
    while log.index_next(&mut Maker::default()) {}
    assert_eq!(numbers(&log), of(GATEWAY, 1..=size + 300));
    let filter = Filter { user: Some("user-3 \"é\"".to_owned()), ..Filter::default() };
    let counted = log.count(&filter, Division::default(), &|| false).unwrap();
    assert_eq!(counted.total.records, (1..=size + 300).filter(|seq| seq % 7 == 3).count() as u64);
}
