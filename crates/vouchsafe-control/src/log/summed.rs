//! Small files beside the segments: the SHA-256 of what follows in hexadecimal, a line feed, JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file that says this.
pub(super) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    let json = serde_json::to_vec(value).unwrap_or_default();
    [sum(&json).as_bytes(), &json].concat()
}

/// What a file says, when its sum holds.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let at = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    let (head, json) = bytes.split_at_checked(at)?;
    if head != sum(json).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn sum(json: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, json);
    format!("{}\n", vouchsafe_wire::ticket::hex(digest.as_ref()))
}
