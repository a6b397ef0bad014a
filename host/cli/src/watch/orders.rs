//! What watchers may ask for: resets and bans. The paths are those of HTTP, on the control socket
//! and the admin address.

use std::fmt::Write as _;
use std::time::Duration;

use halfopen::Bans;
use hyper::{Method, StatusCode};
use ipnet::IpNet;

use super::feed::Watching;
use crate::args::values::network;

/// How long a ban is if nobody says.
const BAN: Duration = Duration::from_secs(3600);

/// The answer to an order, in words.
pub(crate) type Answer = (StatusCode, String);

impl Watching {
    /// Follows an order; `None` if there is no such order.
    pub(crate) fn follow(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> Option<Answer> {
        let path = path.strip_prefix('/')?;
        if path == "bans" && method == Method::GET {
            return Some((StatusCode::OK, self.list()));
        }
        let within = |prefix: &str, suffix: &str| path.strip_prefix(prefix)?.strip_suffix(suffix);
        if let Some(id) = within("connections/", "/reset") {
            return (method == Method::POST).then(|| self.reset(id));
        }
        let peers = within("peers/", "/ban")?
            .replace("%2F", "/")
            .replace("%2f", "/");
        let followed = match network(&peers) {
            Err(error) => Err(format!("`{peers}`: {error}\n")),
            Ok(peers) if method == Method::POST => self.ban(peers, query),
            Ok(peers) if method == Method::DELETE => return Some(self.unban(peers)),
            Ok(_) => return None,
        };
        Some(match followed {
            Ok(text) => (StatusCode::OK, text),
            Err(text) => (StatusCode::BAD_REQUEST, text),
        })
    }

    fn reset(&self, id: &str) -> Answer {
        match id.parse() {
            Ok(id) if self.events().reset(id) => {
                (StatusCode::OK, format!("connection {id} is reset\n"))
            }
            Ok(id) => (
                StatusCode::NOT_FOUND,
                format!("no connection {id} is open; `halfopen watch` shows their numbers\n"),
            ),
            Err(_) => (
                StatusCode::BAD_REQUEST,
                format!("`{id}` is not the number of a connection\n"),
            ),
        }
    }

    fn ban(&self, peers: IpNet, query: Option<&str>) -> Result<String, String> {
        let time = match query {
            None => BAN,
            Some(query) => seconds(query).ok_or("write `?seconds=N`, with a number above 0\n")?,
        };
        if !self.bans().ban(peers, time) {
            return Err("too many networks are banned; end some bans first\n".to_owned());
        }
        let covered = |peer: Option<std::net::SocketAddr>| {
            peer.is_some_and(|peer| Bans::covers(peers, peer.ip()))
        };
        let reset = self.events().reset_all(|_, peer| covered(peer));
        let seconds = time.as_secs_f64();
        Ok(format!(
            "{peers} is banned for {seconds} s; {reset} connections are reset\n"
        ))
    }

    fn unban(&self, peers: IpNet) -> Answer {
        match self.bans().unban(peers) {
            true => (StatusCode::OK, format!("{peers} is not banned any more\n")),
            false => (StatusCode::NOT_FOUND, format!("{peers} is not banned\n")),
        }
    }

    /// One line for each ban: the network, and the seconds that are left.
    fn list(&self) -> String {
        let mut text = String::new();
        for (network, left) in self.bans().list() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{network} {}", left.as_secs_f64().ceil());
        }
        text
    }
}

/// The time in a query, `seconds=N`.
fn seconds(query: &str) -> Option<Duration> {
    let seconds: f64 = query.strip_prefix("seconds=")?.parse().ok()?;
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(watching: &Watching, method: Method, target: &str) -> Option<Answer> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        watching.follow(&method, path, query)
    }

    #[test]
    fn a_ban_is_made_listed_and_ended() {
        let watching = Watching::new();
        let ban = |method, target: &str| follow(&watching, method, target).unwrap();
        let (status, text) = ban(Method::POST, "/peers/192.0.2.0/24/ban?seconds=60");
        assert_eq!(status, StatusCode::OK, "{text}");
        assert_eq!(
            text,
            "192.0.2.0/24 is banned for 60 s; 0 connections are reset\n"
        );
        let (_, text) = ban(Method::POST, "/peers/2001:db8::1/ban");
        assert!(text.contains("for 3600 s"), "{text}");
        let (_, text) = ban(Method::GET, "/bans");
        assert_eq!(text, "192.0.2.0/24 60\n2001:db8::1/128 3600\n");
        for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
            let (unbanned, _) = ban(Method::DELETE, "/peers/192.0.2.0%2F24/ban");
            assert_eq!(unbanned, status);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_why() {
        let watching = Watching::new();
        for (method, target, status, part) in [
            (Method::POST, "/peers/x/ban", 400, "`x`: "),
            (Method::POST, "/peers/::1/ban?seconds=0", 400, "above 0"),
            (Method::POST, "/peers/::1/ban?seconds=x", 400, "seconds=N"),
            (Method::POST, "/peers/::1/ban?minutes=1", 400, "seconds=N"),
            (
                Method::POST,
                "/peers/::1/ban?seconds=1e300",
                400,
                "seconds=N",
            ),
            (Method::POST, "/connections/7/reset", 404, "no connection 7"),
            (Method::POST, "/connections/x/reset", 400, "not the number"),
        ] {
            let (code, text) = follow(&watching, method, target).unwrap();
            assert_eq!(code.as_u16(), status, "{target}: {text}");
            assert!(text.contains(part), "{target}: {text}");
        }
        for (method, target) in [
            (Method::GET, "/connections/7/reset"),
            (Method::GET, "/peers/::1/ban"),
            (Method::POST, "/bans"),
            (Method::POST, "/peers//reset"),
        ] {
            assert_eq!(follow(&watching, method, target), None, "{target}");
        }
    }
}
