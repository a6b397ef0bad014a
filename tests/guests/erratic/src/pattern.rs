//! The bytes of a connection, which tell whose they are and where they belong.

/// What a byte is sent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The client.
    Client,
    /// The service.
    Service,
}

/// Returns the bytes from `start` that the sender sends on the connection with this seed.
pub(crate) fn bytes(seed: u64, sender: Sender, start: u64, length: usize) -> Vec<u8> {
    let first = start / 8;
    let skip = (start % 8) as usize;
    let blocks = (skip + length).div_ceil(8) as u64;
    let mut bytes: Vec<u8> = (first..first + blocks)
        .flat_map(|block| mix(seed, sender, block).to_le_bytes())
        .skip(skip)
        .collect();
    bytes.truncate(length);
    bytes
}

/// SplitMix64 (Steele, Lea and Flood 2014), of which any number can be had at once.
fn mix(seed: u64, sender: Sender, block: u64) -> u64 {
    let stream = match sender {
        Sender::Client => seed,
        Sender::Service => !seed,
    };
    let mut mixed = stream.wrapping_add(block.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
