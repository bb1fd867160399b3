//! Which partition: as Java's producer places a record with that key.

/// Partition of these bytes on a topic with so many partitions, as Java's default partitioner
/// places a record whose serialized key they are (`toPositive(murmur2(key)) % numPartitions`).
pub(crate) fn partition(bytes: &[u8], partitions: u32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition");
    let positive = murmur2(bytes) & 0x7FFF_FFFF;
    i32::try_from(positive % partitions).expect("a remainder of 31 bits fits")
}

/// MurmurHash2, 32 bits, with the seed of Kafka's clients.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_B28C;
    const M: u32 = 0x5BD1_E995;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "Kafka's clients hash lengths as 32 bits"
    )]
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, murmur2, and the partition of 12, printed by the Java client
    /// (`tests/golden/Placement.java` makes the file).
    const GOLDEN: &str = include_str!("../tests/golden/placement.txt");

    #[test]
    fn records_are_placed_where_the_java_client_places_them() {
        let mut vectors = 0;
        for line in GOLDEN.lines() {
            let [hex, hash, partition_of_12, partition_of_7] =
                line.split(' ').collect::<Vec<_>>()[..]
            else {
                panic!("'{line}' is no vector")
            };
            let digits = hex.trim_start_matches("0x");
            let key: Vec<u8> = (0..digits.len() / 2)
                .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            assert_eq!(
                murmur2(&key).cast_signed(),
                hash.parse::<i32>().unwrap(),
                "{line}"
            );
            assert_eq!(
                partition(&key, 12),
                partition_of_12.parse::<i32>().unwrap(),
                "{line}"
            );
            assert_eq!(
                partition(&key, 7),
                partition_of_7.parse::<i32>().unwrap(),
                "{line}"
            );
            vectors += 1;
        }
        assert!(vectors >= 500, "{vectors} vectors");
    }
}
