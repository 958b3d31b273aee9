//! A CRC-32 at the end of rows that nothing authenticates, so that damage of the disk is told from content.
//!
//! It is no protection against somebody who writes rows on purpose: nothing that matters to secrecy rests on it.

const SUM_BYTES: usize = 4;

/// The row with its sum.
pub fn with_sum(mut row: Vec<u8>) -> Vec<u8> {
    row.extend_from_slice(&crc32fast::hash(&row).to_be_bytes());
    row
}

/// The row without its sum; `None` if it does not fit.
pub fn checked(value: &[u8]) -> Option<&[u8]> {
    let (row, sum) = value.split_last_chunk::<SUM_BYTES>()?;
    (crc32fast::hash(row) == u32::from_be_bytes(*sum)).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_cut_row_is_told() {
        let row = with_sum(b"LTU1 and so on".to_vec());
        assert_eq!(checked(&row), Some(b"LTU1 and so on".as_slice()));
        for bit in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(checked(&bad), None, "bit {bit}");
        }
        assert!((0..row.len()).all(|len| checked(&row[..len]).is_none()));
    }
}
