//! The keys of TLS session tickets (RFC 8446 section 4.6.1, RFC 5077), which servers can share.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// How long a key makes tickets. It opens them for as long again: the intervals of rustls.
const INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);
/// How long a client may use a ticket, in seconds.
const LIFETIME: u32 = 12 * 60 * 60;
/// The length of a key's name, by which a ticket says which key opens it.
const NAME: usize = 16;
/// The length of a key.
const SECRET: usize = 32;
/// The length of a key that is handed over: its name and the key.
const KEY: usize = NAME + SECRET;
/// The length of the seconds until the next key.
const SECONDS: usize = 4;

/// The keys with which servers make session tickets: a client that has one resumes its session,
/// without another exchange of certificates. A new key is made every 6 hours, and each opens
/// tickets for 12. Clones have the same keys.
///
/// A ticket is good only for servers of the same name that ask clients for certificates in the
/// same way, see [`TlsFiles::tickets`](super::tls::TlsFiles::tickets).
///
/// Another process that goes on with the same service can go on with its sessions, too:
///
/// ```
/// use halfopen::tls::Tickets;
///
/// let (before, after) = (Tickets::new()?, Tickets::new()?);
/// let keys = before.keys()?; // over a channel that nobody else reads
/// after.adopt(keys.as_bytes())?;
/// # Ok::<_, halfopen::tls::NoTickets>(())
/// ```
#[derive(Clone)]
pub struct Tickets(Arc<Mutex<Keys>>);

/// The keys of [`Tickets`], for another process. The memory is overwritten on drop.
pub struct TicketKeys(Zeroizing<Vec<u8>>);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum NoTickets {
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for the keys of TLS session tickets")]
    NoRandom,
    /// What was handed over is no keys.
    #[error("what was handed over are no keys of TLS session tickets")]
    NoKeys,
}

struct Keys {
    current: Key,
    previous: Option<Key>,
    /// When the next key is due.
    next: Instant,
}

struct Key {
    name: [u8; NAME],
    secret: Zeroizing<[u8; SECRET]>,
    cipher: LessSafeKey,
}

impl Tickets {
    /// Makes a key.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn new() -> Result<Self, NoTickets> {
        let keys = Keys {
            current: Key::random()?,
            previous: None,
            next: Instant::now() + INTERVAL,
        };
        Ok(Tickets(Arc::new(Mutex::new(keys))))
    }

    /// Returns the keys, for another process.
    ///
    /// # Errors
    /// If a new key is due, and the system gives no random bytes.
    pub fn keys(&self) -> Result<TicketKeys, NoTickets> {
        let now = Instant::now();
        let keys = self.current(now)?;
        let seconds = keys.next.saturating_duration_since(now).as_secs();
        // Fits: the interval does.
        let seconds = u32::try_from(seconds).unwrap_or(0);
        // With room for all, so that no copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECONDS + 2 * KEY));
        bytes.extend(seconds.to_le_bytes());
        for key in [Some(&keys.current), keys.previous.as_ref()]
            .into_iter()
            .flatten()
        {
            bytes.extend(key.name);
            bytes.extend(key.secret.iter());
        }
        Ok(TicketKeys(bytes))
    }

    /// Goes on with the keys of another process, in place of its own.
    ///
    /// # Errors
    /// If these are no keys.
    pub fn adopt(&self, keys: &[u8]) -> Result<(), NoTickets> {
        let (seconds, keys) = keys.split_first_chunk().ok_or(NoTickets::NoKeys)?;
        let left = Duration::from_secs(u32::from_le_bytes(*seconds).into());
        let mut adopted = keys.chunks(KEY).map(Key::read);
        let current = adopted.next().flatten().ok_or(NoTickets::NoKeys)?;
        let previous = match adopted.next() {
            Some(previous) => Some(previous.ok_or(NoTickets::NoKeys)?),
            None => None,
        };
        if adopted.next().is_some() {
            return Err(NoTickets::NoKeys);
        }
        *self.lock() = Keys {
            current,
            previous,
            next: Instant::now() + left.min(INTERVAL),
        };
        Ok(())
    }

    /// The tickets of a server. A ticket is good for all servers with this context.
    pub(super) fn of(&self, context: &[u8]) -> Arc<dyn ProducesTickets> {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, context).as_ref());
        Arc::new(Producer {
            tickets: self.clone(),
            context: hash,
        })
    }

    /// The keys, after the next one has been made if it is due.
    fn current(&self, now: Instant) -> Result<MutexGuard<'_, Keys>, NoTickets> {
        let mut keys = self.lock();
        if now >= keys.next {
            let made = Key::random()?;
            let last = std::mem::replace(&mut keys.current, made);
            // Whatever is older than two intervals opens nothing any more.
            keys.previous = (now < keys.next + INTERVAL).then_some(last);
            keys.next = now + INTERVAL;
        }
        Ok(keys)
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seal(&self, message: &[u8], context: &[u8], now: Instant) -> Option<Vec<u8>> {
        // Random, because a counter would tell how many tickets there were.
        let nonce: [u8; NONCE_LEN] = random().ok()?;
        let keys = self.current(now).ok()?;
        let key = &keys.current;
        let mut ticket = [&key.name[..], &nonce, message].concat();
        let associated = Aad::from([&key.name[..], context].concat());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = &mut ticket[NAME + NONCE_LEN..];
        let sealed = key
            .cipher
            .seal_in_place_separate_tag(nonce, associated, text);
        ticket.extend(sealed.ok()?.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], context: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.current(now).ok()?;
        let mut all = [Some(&keys.current), keys.previous.as_ref()]
            .into_iter()
            .flatten();
        let key = all.find(|key| key.name == *name)?;
        let associated = Aad::from([&name[..], context].concat());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut text = sealed.to_vec();
        let length = key.cipher.open_in_place(nonce, associated, &mut text);
        let length = length.ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

impl TicketKeys {
    /// Returns the keys as bytes, for [`Tickets::adopt`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Keys that have come from another process.
impl From<Vec<u8>> for TicketKeys {
    fn from(bytes: Vec<u8>) -> Self {
        TicketKeys(Zeroizing::new(bytes))
    }
}

impl Key {
    fn random() -> Result<Self, NoTickets> {
        Ok(Key::new(random()?, Zeroizing::new(random()?)))
    }

    fn new(name: [u8; NAME], secret: Zeroizing<[u8; SECRET]>) -> Self {
        let cipher = UnboundKey::new(&CHACHA20_POLY1305, &*secret)
            .expect("the secret has the length of a key");
        Key {
            name,
            cipher: LessSafeKey::new(cipher),
            secret,
        }
    }

    /// The key that was handed over; `None` if it is too short.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (name, secret) = bytes.split_first_chunk()?;
        Some(Key::new(*name, Zeroizing::new(secret.try_into().ok()?)))
    }
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], NoTickets> {
    let mut bytes = [0; LENGTH];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| NoTickets::NoRandom)
}

/// The tickets of one server.
#[derive(Debug)]
struct Producer {
    tickets: Tickets,
    context: [u8; SHA256_OUTPUT_LEN],
}

impl ProducesTickets for Producer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.seal(plain, &self.context, Instant::now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.tickets.open(ticket, &self.context, Instant::now())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_two_intervals_and_one_context() {
        let tickets = Tickets::new().unwrap();
        let start = Instant::now();
        let ticket = tickets.seal(b"session", b"a", start).unwrap();
        let opens = |ticket: &[u8], context: &[u8], after: Duration| {
            tickets.open(ticket, context, start + after)
        };
        assert_eq!(opens(&ticket, b"a", Duration::ZERO).unwrap(), b"session");
        assert_eq!(opens(&ticket, b"b", Duration::ZERO), None);
        let mut changed = ticket.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(opens(&changed, b"a", Duration::ZERO), None);
        for cut in [0, NAME, NAME + NONCE_LEN, ticket.len() - 1] {
            assert_eq!(opens(&ticket[..cut], b"a", Duration::ZERO), None, "{cut}");
        }
        assert!(opens(&ticket, b"a", INTERVAL * 3 / 2).is_some());
        let later = tickets.seal(b"x", b"a", start + INTERVAL * 3 / 2).unwrap();
        assert_ne!(later[..NAME], ticket[..NAME], "there is a new key");
        assert_eq!(opens(&ticket, b"a", INTERVAL * 3), None);
        assert!(opens(&later, b"a", INTERVAL * 3).is_some());
        // After a long time without connections no key is left.
        assert_eq!(opens(&later, b"a", INTERVAL * 9), None);
    }

    #[test]
    fn another_process_goes_on_with_the_keys_and_their_age() {
        let (before, after) = (Tickets::new().unwrap(), Tickets::new().unwrap());
        let now = Instant::now();
        let old = before.seal(b"old", b"a", now).unwrap();
        before.lock().next = now;
        let new = before.seal(b"new", b"a", now).unwrap();
        before.lock().next = now + INTERVAL / 2;
        assert_eq!(after.open(&new, b"a", now), None);
        after.adopt(before.keys().unwrap().as_bytes()).unwrap();
        assert_eq!(after.open(&old, b"a", now).unwrap(), b"old");
        assert_eq!(after.open(&new, b"a", now).unwrap(), b"new");
        assert!(after.lock().next <= Instant::now() + INTERVAL / 2);
    }

    #[test]
    fn what_is_no_key_is_refused_and_changes_nothing() {
        let tickets = Tickets::new().unwrap();
        let ticket = tickets.seal(b"x", b"a", Instant::now()).unwrap();
        let keys = tickets.keys().unwrap();
        let keys = keys.as_bytes();
        for wrong in [&[][..], &keys[..SECONDS], &keys[..keys.len() - 1]] {
            assert!(tickets.adopt(wrong).is_err());
        }
        let long = [keys, &keys[SECONDS..], &keys[SECONDS..]].concat();
        assert!(tickets.adopt(&long).is_err());
        assert!(tickets.open(&ticket, b"a", Instant::now()).is_some());
    }

    #[test]
    fn debugging_shows_no_key() {
        let tickets = Tickets::new().unwrap();
        let shown = format!("{tickets:?} {:?}", tickets.keys().unwrap());
        assert_eq!(shown, "Tickets { .. } TicketKeys { .. }");
    }
}
