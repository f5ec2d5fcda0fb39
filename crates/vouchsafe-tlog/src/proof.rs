//! Proofs that an entry is in a tree, and that a tree only grew (RFC 6962 §2.1.1, §2.1.2), made of stored hashes and
//! verified as RFC 9162 §2.1.3.2 and §2.1.4.2 say.

use crate::hash::Hash;
use crate::tree::{Stored, range, split};

/// Most hashes of a proof.
pub const MAX_PROOF: usize = 63;

/// A proof that doesn't prove what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index is not within the tree, or the older tree is the larger.
    #[error("there is nothing to prove between such positions and sizes")]
    Range,
    /// It has more or fewer hashes than a proof of that has.
    #[error("the proof has a wrong number of hashes")]
    Length,
    /// What comes out is another root.
    #[error("the proof leads to another root")]
    Root,
}

/// The hashes beside the way from an entry to the root of the first `size` entries. Nothing when `index` isn't among them.
///
/// # Errors
/// Those of the store.
pub fn inclusion<S: Stored>(stored: &S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let mut proof = Vec::new();
    if index >= size {
        return Ok(proof);
    }
    let (mut first, mut next) = (0, size);
    while next - first > 1 {
        let middle = first + split(next - first);
        if index < middle {
            proof.push(range(stored, middle, next)?);
            next = middle;
        } else {
            proof.push(range(stored, first, middle)?);
            first = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The hashes that lead from the root of the first `old` entries to that of the first `size`. Nothing when `old` is none,
/// or not less.
///
/// # Errors
/// Those of the store.
pub fn consistency<S: Stored>(stored: &S, old: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= size {
        return Ok(proof);
    }
    // What the old tree has of the subtree: as long as it begins at 0, the old root is known to who verifies.
    let (mut first, mut next, mut known) = (0, size, true);
    while old != next {
        let middle = first + split(next - first);
        if old <= middle {
            proof.push(range(stored, middle, next)?);
            next = middle;
        } else {
            proof.push(range(stored, first, middle)?);
            first = middle;
            known = false;
        }
    }
    if !known {
        proof.push(range(stored, first, next)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Verifies that an entry's hash stands at `index` in the tree of that size and root.
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range);
    }
    let mut walk = Walk { node: index, last: size - 1 };
    let mut hash = *leaf;
    for beside in proof {
        hash = match walk.up()? {
            Side::Left => Hash::of_node(beside, &hash),
            Side::Right => Hash::of_node(&hash, beside),
        };
    }
    walk.arrived(hash == *root)
}

/// Verifies that the tree of `size` entries begins with the tree of `old` ones.
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(old: u64, old_root: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> Result<(), ProofError> {
    if old > size {
        return Err(ProofError::Range);
    }
    if old == 0 || old == size {
        let same = if old == 0 { *old_root == Hash::of_nothing() } else { old_root == root };
        return if !proof.is_empty() {
            Err(ProofError::Length)
        } else if same {
            Ok(())
        } else {
            Err(ProofError::Root)
        };
    }
    let (start, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(ProofError::Length)?;
        (*first, rest)
    };
    if rest.is_empty() {
        return Err(ProofError::Length);
    }
    let full = (old - 1).trailing_ones();
    let mut walk = Walk { node: (old - 1) >> full, last: (size - 1) >> full };
    let (mut before, mut now) = (start, start);
    for beside in rest {
        match walk.up()? {
            Side::Left => {
                before = Hash::of_node(beside, &before);
                now = Hash::of_node(beside, &now);
            }
            Side::Right => now = Hash::of_node(&now, beside),
        }
    }
    walk.arrived(before == *old_root && now == *root)
}

/// On which side of the way the next hash of a proof stands.
enum Side {
    Left,
    Right,
}

/// The way from a node to the root: its index at its height, and that of the last one there.
struct Walk {
    node: u64,
    last: u64,
}

impl Walk {
    fn up(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::Length);
        }
        let side = if self.node & 1 == 1 || self.node == self.last {
            // A last node without a neighbour is its own parent.
            let alone = if self.node == 0 { 63 } else { self.node.trailing_zeros() };
            self.node >>= alone;
            self.last >>= alone;
            Side::Left
        } else {
            Side::Right
        };
        self.node >>= 1;
        self.last >>= 1;
        Ok(side)
    }

    fn arrived(&self, same: bool) -> Result<(), ProofError> {
        match (self.last == 0, same) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::root;
    use crate::tree::tests::{Memory, defined};

    /// RFC 6962 §2.1.1 and §2.1.2, word by word.
    fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let k = usize::try_from(split(leaves.len() as u64)).unwrap();
        let (mut path, last) = if index < k {
            (path(index, &leaves[..k]), defined(&leaves[k..]))
        } else {
            (path(index - k, &leaves[k..]), defined(&leaves[..k]))
        };
        path.push(last);
        path
    }

    fn subproof(old: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if known { Vec::new() } else { vec![defined(leaves)] };
        }
        let k = usize::try_from(split(leaves.len() as u64)).unwrap();
        let (mut proof, last) = if old <= k {
            (subproof(old, &leaves[..k], known), defined(&leaves[k..]))
        } else {
            (subproof(old - k, &leaves[k..], false), defined(&leaves[..k]))
        };
        proof.push(last);
        proof
    }

    #[test]
    fn every_proof_of_small_trees_is_the_defined_one_and_verifies() {
        let memory = Memory::of(41);
        for size in 1..=41_u64 {
            let leaves = &memory.leaves[..usize::try_from(size).unwrap()];
            let whole = root(&memory, size).unwrap();
            for index in 0..size {
                let at = usize::try_from(index).unwrap();
                let proof = inclusion(&memory, index, size).unwrap();
                assert_eq!(proof, path(at, leaves), "{index} {size}");
                assert_eq!(verify_inclusion(&leaves[at], index, size, &whole, &proof), Ok(()));
                let old = index + 1;
                let proof = consistency(&memory, old, size).unwrap();
                assert_eq!(proof, subproof(usize::try_from(old).unwrap(), leaves, true), "{old} {size}");
                assert_eq!(verify_consistency(old, &root(&memory, old).unwrap(), size, &whole, &proof), Ok(()));
            }
        }
    }

    #[test]
    fn sizes_of_any_height_have_walks_that_end() {
        for (index, size) in [(0, u64::MAX), (u64::MAX - 1, u64::MAX), (1 << 62, (1 << 62) + 1), (0, 1 << 63)] {
            let proof = vec![Hash::of_nothing(); 64];
            assert!(verify_inclusion(&Hash::of_nothing(), index, size, &Hash::of_nothing(), &proof).is_err());
            let old = index.max(1);
            let nothing = Hash::of_nothing();
            assert!(verify_consistency(old, &nothing, size, &nothing, &proof).is_err());
        }
        assert_eq!(verify_inclusion(&Hash::of_nothing(), 0, 0, &Hash::of_nothing(), &[]), Err(ProofError::Range));
        assert_eq!(verify_consistency(2, &Hash::of_nothing(), 1, &Hash::of_nothing(), &[]), Err(ProofError::Range));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn nothing_but_the_right_proof_verifies(size in 2_u64..400, pick in any::<(u64, u64, u8, u8)>()) {
            let memory = Memory::of(size);
            let whole = root(&memory, size).unwrap();
            let (index, old) = (pick.0 % size, 1 + pick.1 % (size - 1));
            let leaf = memory.leaves[usize::try_from(index).unwrap()];
            let old_root = root(&memory, old).unwrap();
            let inclusion = inclusion(&memory, index, size).unwrap();
            let consistency = consistency(&memory, old, size).unwrap();
            prop_assert_eq!(verify_inclusion(&leaf, index, size, &whole, &inclusion), Ok(()));
            prop_assert_eq!(verify_consistency(old, &old_root, size, &whole, &consistency), Ok(()));

            let changed = |proof: &[Hash]| {
                let mut proof = proof.to_vec();
                let at = usize::from(pick.2) % proof.len().max(1);
                match pick.3 % 4 {
                    0 if !proof.is_empty() => { proof.remove(at); }
                    1 => proof.insert(at.min(proof.len()), leaf),
                    2 if proof.len() > 1 && proof[0] != proof[1] => proof.swap(0, 1),
                    _ if !proof.is_empty() => proof[at].0[usize::from(pick.3) % 32] ^= 1,
                    _ => proof.push(whole),
                }
                proof
            };
            prop_assert!(verify_inclusion(&leaf, index, size, &whole, &changed(&inclusion)).is_err());
            prop_assert!(verify_consistency(old, &old_root, size, &whole, &changed(&consistency)).is_err());
            let other = (index + 1) % size;
            prop_assert!(verify_inclusion(&leaf, other, size, &whole, &inclusion).is_err());
            prop_assert!(verify_consistency(old, &whole, size, &whole, &consistency).is_err());
        }
    }
}
