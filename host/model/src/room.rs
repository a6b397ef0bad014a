//! How much to read at once.

/// The room for the next read of a connection, which follows its traffic: an idle connection
/// holds one buffer, so that is small, and a busy one should need few reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room(usize);

impl Room {
    /// The least room, in bytes, which is also that of the first read.
    pub const MIN: usize = 4 * 1024;
    /// The most room, in bytes.
    pub const MAX: usize = 64 * 1024;

    /// The number of bytes that the next read takes at most.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0
    }

    /// Records how much of the room the last read has filled.
    pub fn filled(&mut self, length: usize) {
        if length == self.0 {
            self.0 = (self.0 * 4).min(Room::MAX);
        } else if length < self.0 / 4 {
            self.0 = (self.0 / 4).max(Room::MIN);
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        Room(Room::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_reads_follows_the_traffic() {
        let mut room = Room::default();
        room.filled(Room::MIN);
        assert_eq!(room, Room(4 * Room::MIN));
        room.filled(2 * Room::MIN);
        assert_eq!(room, Room(4 * Room::MIN));
        room.filled(10);
        assert_eq!(room, Room(Room::MIN));
        room.filled(10);
        assert_eq!(room, Room(Room::MIN));
        for _ in 0..3 {
            room.filled(room.bytes());
        }
        assert_eq!(room, Room(Room::MAX));
    }
}
