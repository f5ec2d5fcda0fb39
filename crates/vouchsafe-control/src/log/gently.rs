//! Reading and writing megabytes in steps.
//!
//! Within one `read(2)` or `write(2)` many kernels let nobody else have the core, whatever its priority: ten megabytes have
//! been seen to hold one for 70 ms, and whoever had come to it waited. Between two calls others are let in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of one call.
const STEP: usize = 64 * 1024;

/// Writes all bytes at that offset.
pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    bytes.chunks(STEP).zip(0..).try_for_each(|(step, number)| file.write_all_at(step, offset + number * STEP as u64))
}

/// Reads the whole file into `bytes`, in place of what was there. Whoever writes it may cut it off meanwhile.
pub(super) fn read_all(file: &File, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    loop {
        let start = bytes.len();
        bytes.resize(start + STEP, 0);
        let read = match file.read_at(bytes.get_mut(start..).unwrap_or_default(), start as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                bytes.truncate(start);
                continue;
            }
            read => read?,
        };
        bytes.truncate(start + read);
        if read == 0 {
            return Ok(());
        }
    }
}

/// Reads the whole file of that name.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or_default() + STEP);
    read_all(&file, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_steps_is_read_in_steps() {
        let file = tempfile::tempfile().unwrap();
        for length in [0, 1, STEP - 1, STEP, STEP + 1, 3 * STEP + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            file.set_len(3).unwrap();
            write_all_at(&file, &bytes, 3).unwrap();
            let mut read = vec![9; 2 * STEP];
            read_all(&file, &mut read).unwrap();
            assert_eq!(read.len(), length + 3);
            assert_eq!(read[3..], bytes);
        }
    }
}
