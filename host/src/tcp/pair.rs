//! Two connections whose bytes pass from one to the other, or one that echoes them.

use std::net::TcpStream;
use std::sync::Arc;

use super::Socket;

/// Connections between which a store moves bytes.
#[derive(Debug)]
pub(super) struct Pair {
    accepted: Arc<Socket>,
    /// `None`: the same.
    other: Option<Arc<Socket>>,
}

/// Connections that are no longer this process's. Dropping them resets both.
#[derive(Debug)]
pub(crate) struct Parted {
    /// The connection that was accepted.
    pub(crate) accepted: TcpStream,
    /// The one to which its bytes pass, and whose bytes pass to it. `None`: to itself.
    pub(crate) other: Option<TcpStream>,
}

impl Pair {
    /// The pair of these sockets, if they are one or two, and just one was accepted. A socket may
    /// come several times.
    pub(super) fn of<'s>(sockets: impl IntoIterator<Item = &'s Arc<Socket>>) -> Option<Self> {
        let mut all: Vec<&Arc<Socket>> = Vec::new();
        for socket in sockets {
            if !all.iter().any(|known| Arc::ptr_eq(known, socket)) {
                all.push(socket);
            }
        }
        all.sort_by_key(|socket| socket.is_of_guest());
        let (accepted, other) = match all[..] {
            [one] => (one, None),
            [one, other] if other.is_of_guest() => (one, Some(other.clone())),
            _ => return None,
        };
        (!accepted.is_of_guest()).then(|| Pair {
            accepted: accepted.clone(),
            other,
        })
    }

    /// How many connections they are.
    pub(super) fn len(&self) -> usize {
        1 + usize::from(self.other.is_some())
    }

    /// Whether passing bytes is all that is left to do for them. `passes` says whether what one
    /// receives is sent to the other.
    pub(super) fn only_passes(&self, passes: impl Fn(&Arc<Socket>, &Arc<Socket>) -> bool) -> bool {
        let to = self.other.as_ref().unwrap_or(&self.accepted);
        let (out, back) = (passes(&self.accepted, to), passes(to, &self.accepted));
        (out || back) && self.accepted.may_part(out, back) && to.may_part(back, out)
    }

    /// Takes the streams out. `None` if a connection has failed just now; the other one is reset
    /// then, if it was taken out before.
    pub(super) fn part(&self) -> Option<Parted> {
        // First the one that nobody has asked for: if it has failed, the accepted one is still in
        // its place, and learns of it as ever.
        let other = match &self.other {
            None => None,
            Some(other) => Some(other.part()?.into_std().ok()?),
        };
        let accepted = self.accepted.part()?.into_std().ok()?;
        Some(Parted { accepted, other })
    }
}
