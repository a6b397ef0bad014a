//! The weather of a connection: what its wire does to each packet.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    Server,
    Client,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is lost.
    Lost,
    /// It arrives after this time.
    Arrives(Duration),
    /// It arrives twice, after these times.
    Doubled(Duration, Duration),
    /// It arrives as a reset, and so does a packet to its sender.
    Reset,
}

/// A time in which nothing gets through, in one direction or in both.
#[derive(Clone, Copy, Debug)]
struct Partition {
    from: Duration,
    /// `None` for good.
    until: Option<Duration>,
    only: Option<Towards>,
}

/// The weather of one connection. Times count from its first packet.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    random: Rng,
    start: Option<Instant>,
    delay: Duration,
    jitter: Duration,
    /// Of a thousand packets.
    lost: u16,
    doubled: u16,
    partition: Option<Partition>,
    /// The packet with data or an acknowledgement, counted from the client's first one, that
    /// becomes a reset.
    reset: Option<u32>,
    packets: u32,
}

impl Weather {
    /// Makes the weather of a seed: mostly fair, and seldom a catastrophe.
    pub(super) fn random(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let ms = |milliseconds| Duration::from_millis(milliseconds);
        let lost = match random.u8(..4) {
            0 => 0,
            1..=2 => random.u16(..50),
            _ => random.u16(..200),
        };
        let partition = match random.u8(..10) {
            0..=1 => {
                let from = random.u64(..300);
                Some(Partition {
                    from: ms(from),
                    // One in eight is for good.
                    until: (random.u8(..8) > 0).then(|| ms(from + random.u64(20..1200))),
                    only: match random.u8(..3) {
                        0 => None,
                        1 => Some(Towards::Server),
                        _ => Some(Towards::Client),
                    },
                })
            }
            _ => None,
        };
        Weather {
            start: None,
            delay: ms(random.u64(..15)),
            jitter: ms(random.u64(1..10)),
            lost,
            doubled: if random.bool() { random.u16(..50) } else { 0 },
            partition,
            reset: (random.u8(..8) == 0).then(|| random.u32(2..20)),
            packets: 0,
            random,
        }
    }

    /// Decides on a packet.
    pub(super) fn fate(&mut self, towards: Towards, now: Instant) -> Fate {
        let since = now - *self.start.get_or_insert(now);
        self.packets += u32::from(towards == Towards::Server);
        if self.reset == Some(self.packets) && towards == Towards::Server {
            self.reset = None;
            return Fate::Reset;
        }
        let parted = self.partition.is_some_and(|partition| {
            partition.from <= since
                && partition.until.is_none_or(|until| since < until)
                && partition.only.is_none_or(|only| only == towards)
        });
        if parted || self.random.u16(..1000) < self.lost {
            return Fate::Lost;
        }
        let time = self.time();
        if self.random.u16(..1000) < self.doubled {
            return Fate::Doubled(time, self.time());
        }
        Fate::Arrives(time)
    }

    fn time(&mut self) -> Duration {
        let jitter = u64::try_from(self.jitter.as_micros()).unwrap_or(0);
        self.delay + Duration::from_micros(self.random.u64(..jitter))
    }
}
