//! Round trips of seeded random maps, one fixed vector, and every way to damage an encoding.

use super::*;
use crate::id::Day;

/// SplitMix64: a failure prints its seed and replays.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> usize {
        (self.next() % n) as usize
    }

    fn value(&mut self) -> Value {
        let len = self.below(60);
        match self.below(6) {
            0 => Value::Text((0..len).map(|_| ['a', 'é', '张', '𠀀'][self.below(4)]).collect()),
            1 => Value::Integer(self.next() as i64),
            2 => Value::Number((self.next() as i64) as f64 / 7.0),
            3 => Value::Boolean(self.below(2) == 1),
            4 => Value::Date(Day(self.next() as i32)),
            _ => Value::Bytes((0..len).map(|_| self.next() as u8).collect()),
        }
    }

    fn map(&mut self, fields: usize) -> FieldMap {
        FieldMap {
            subject: RecordId([self.next() as u8; 16]),
            member: Member { subject: [6; 16], record: [4; 16] },
            created: UnixMillis(self.next() as i64),
            updated: UnixMillis(self.next() as i64),
            used: UnixMillis(self.next() as i64),
            fields: (0..fields).map(|_| (FieldOrd(self.next() as u16), self.value())).collect(),
        }
    }
}

fn with(fields: impl IntoIterator<Item = (u16, Value)>) -> FieldMap {
    FieldMap {
        subject: RecordId([0xab; 16]),
        member: Member { subject: [6; 16], record: [4; 16] },
        created: UnixMillis(1),
        updated: UnixMillis(-2),
        used: UnixMillis(3),
        fields: fields.into_iter().map(|(n, v)| (FieldOrd(n), v)).collect(),
    }
}

fn encoded(map: &FieldMap) -> Vec<u8> {
    map.encode().unwrap().to_vec()
}

#[test]
fn a_map_survives_its_bytes() {
    for seed in 0..500 {
        let mut random = Seeded(seed);
        let fields = random.below(40);
        let map = random.map(fields);
        let bytes = map.encode().unwrap();
        assert_eq!(bytes.len(), padded_len(bytes.len()), "seed {seed}: padding is a fixed point");
        let back = FieldMap::decode(&bytes).unwrap();
        assert!(back == map, "seed {seed}");
        assert_eq!(*back.encode().unwrap(), *bytes, "seed {seed}: one map, one encoding");
    }
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let bytes = encoded(&with([
        (1, Value::Text("é".into())),
        (2, Value::Boolean(true)),
        (0x0103, Value::Date(Day(-1))),
    ]));
    let mut want = vec![0, 0, 0, 102];
    want.extend([0xab; 16]);
    want.extend([6; 16]);
    want.extend([4; 16]);
    want.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    want.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
    want.extend([0, 0, 0, 0, 0, 0, 0, 3]);
    want.extend([0, 3]);
    want.extend([0, 1, 1, 0, 0, 0, 2, 0xc3, 0xa9]);
    want.extend([0, 2, 4, 0, 0, 0, 1, 1]);
    want.extend([1, 3, 5, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(want.len(), 106);
    want.resize(128, 0);
    assert_eq!(bytes, want);
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let bytes = encoded(&Seeded(7).map(12));
    for end in 0..bytes.len() {
        assert!(FieldMap::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    for more in [1, 63, 64, 128, 4096] {
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + more, 0);
        assert_eq!(FieldMap::decode(&longer), Err(FieldMapError::PaddedLength), "{more} more");
    }
}

#[test]
fn whatever_a_bit_flip_leaves_is_refused_or_encodes_to_itself() {
    for seed in 0..4 {
        let bytes = encoded(&Seeded(seed).map(10));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(map) = FieldMap::decode(&bad) {
                assert!(*map.encode().unwrap() == bad, "seed {seed}, bit {bit}");
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    for seed in 0..20_000 {
        let mut random = Seeded(seed);
        let mut bytes: Vec<u8> = (0..random.below(300)).map(|_| random.next() as u8).collect();
        if let Some(high) = bytes.get_mut(..3) {
            high.fill(0);
        }
        if let Ok(map) = FieldMap::decode(&bytes) {
            assert!(*map.encode().unwrap() == bytes, "seed {seed}");
        }
    }
}

#[test]
fn each_rule_has_its_own_refusal() {
    let bytes = encoded(&with([(1, Value::Boolean(true)), (2, Value::Text("ab".into()))]));
    let first = LEN_BYTES + HEAD_BYTES;
    let second = first + ENTRY_HEAD_BYTES + 1;
    let refusal = |at: usize, byte: u8| {
        let mut bad = bytes.clone();
        assert_ne!(bad[at], byte);
        bad[at] = byte;
        FieldMap::decode(&bad).unwrap_err()
    };
    assert_eq!(refusal(first + 1, 2), FieldMapError::Order, "duplicate");
    assert_eq!(refusal(first + 1, 3), FieldMapError::Order, "descending");
    assert_eq!(refusal(first + 2, 0), FieldMapError::ValueType);
    assert_eq!(refusal(first + 2, 7), FieldMapError::ValueType);
    assert_eq!(refusal(first + 2, VTYPE_DATE), FieldMapError::ValueLength);
    assert_eq!(refusal(second + 2, VTYPE_INTEGER), FieldMapError::ValueLength);
    assert_eq!(refusal(first + ENTRY_HEAD_BYTES, 2), FieldMapError::Boolean);
    assert_eq!(refusal(second + ENTRY_HEAD_BYTES, 0xff), FieldMapError::Utf8);
    assert_eq!(refusal(second + 3, 1), FieldMapError::ValueTooLarge);
    assert_eq!(refusal(second + 6, 3), FieldMapError::Truncated);
    assert_eq!(refusal(first - 1, 1), FieldMapError::TrailingBytes);
    assert_eq!(refusal(first - 1, 200), FieldMapError::TooManyFields);
    assert_eq!(refusal(bytes.len() - 1, 1), FieldMapError::Padding);
    assert_eq!(refusal(0, 1), FieldMapError::RecordTooLarge);
    assert_eq!(refusal(2, 1), FieldMapError::Truncated);
}

#[test]
fn the_limits_hold_on_both_sides() {
    let big = |n: usize| Value::Bytes(vec![1; n]);
    let rest = limits::RECORD_BYTES_MAX - limits::VALUE_BYTES_MAX;
    let fits = with([(1, big(limits::VALUE_BYTES_MAX)), (2, big(rest))]);
    assert!(FieldMap::decode(&fits.encode().unwrap()).unwrap() == fits);
    let value = with([(1, big(limits::VALUE_BYTES_MAX + 1))]);
    assert_eq!(value.encode().unwrap_err(), FieldMapError::ValueTooLarge);
    let record = with([(1, big(limits::VALUE_BYTES_MAX)), (2, big(rest + 1))]);
    assert_eq!(record.encode().unwrap_err(), FieldMapError::RecordTooLarge);
    let full = with((0..limits::FIELDS_MAX as u16).map(|n| (n, Value::Boolean(true))));
    assert!(FieldMap::decode(&full.encode().unwrap()).unwrap() == full);
    let over = with((0..=limits::FIELDS_MAX as u16).map(|n| (n, Value::Boolean(true))));
    assert_eq!(over.encode().unwrap_err(), FieldMapError::TooManyFields);

    // The same bytes, written by somebody without our encoder's limits.
    let mut raw = encoded(&fits);
    let at = LEN_BYTES + HEAD_BYTES + ENTRY_HEAD_BYTES + limits::VALUE_BYTES_MAX + 3;
    raw[at..at + 4].copy_from_slice(&(rest as u32 + 1).to_be_bytes());
    let body = u32::from_be_bytes(raw[..4].try_into().unwrap()) + 1;
    raw[..4].copy_from_slice(&body.to_be_bytes());
    raw.resize(padded_len(LEN_BYTES + body as usize), 0);
    assert_eq!(FieldMap::decode(&raw).unwrap_err(), FieldMapError::RecordTooLarge);
}

#[test]
fn padded_lengths_are_those_of_padme() {
    let cases = [(1, 64), (64, 64), (65, 128), (1_024, 1_024), (1_025, 1_088), (2_047, 2_048)];
    for (len, want) in cases {
        assert_eq!(padded_len(len), want, "{len}");
    }
    // E = 13, S = 4: steps of 512.
    assert_eq!(padded_len(9_001), 9_216);
    // E = 20, S = 5: steps of 32,768.
    assert_eq!(padded_len(1_048_577), 1_081_344);
    let mut last = 0;
    for len in 1..70_000 {
        let padded = padded_len(len);
        assert!(padded >= len && padded >= last && padded_len(padded) == padded, "{len}");
        assert!(padded - len < 64 || (padded - len) * 100 <= 12 * len, "{len}: over 12 %");
        last = padded;
    }
}

#[test]
fn chunks_are_full_but_the_last_and_join_to_the_whole() {
    for len in [0, 100, 7_900, 8_000, 20_000, limits::VALUE_BYTES_MAX] {
        let bytes = encoded(&with([(1, Value::Bytes(vec![9; len]))]));
        let parts: Vec<&[u8]> = chunks(&bytes).collect();
        let (last, full) = parts.split_last().unwrap();
        assert!(full.iter().all(|p| p.len() == limits::CHUNK_BYTES), "{len}");
        assert!((1..=limits::CHUNK_BYTES).contains(&last.len()), "{len}");
        assert_eq!(parts.concat(), bytes, "{len}");
    }
}
