//! The names that a guest looks up, and the addresses that it may connect to for that reason.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::name_rule::Named;
use super::policy::is_private;
use super::resolve::Resolver;
use super::{Denied, Policy};

/// How long a guest may connect to an address that it has got for a name.
const HOLDS: Duration = Duration::from_secs(60);

/// The most addresses of one answer that count.
const ADDRESSES: usize = 32;

/// The most addresses that are remembered for a guest; the oldest is forgotten first.
const REMEMBERED: usize = 1024;

/// The most lookups of a guest at once; further ones wait.
const LOOKUPS: usize = 16;

/// How long a lookup takes at most where connecting has no limit.
const LONGEST: Duration = Duration::from_secs(30);

/// Why a name is not looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("the host does not grant it")]
    Denied,
    #[error("it is not a name")]
    Invalid,
    #[error("it took too long")]
    Timeout,
    #[error("{0}")]
    Failed(String),
}

/// The lookups of one guest. Clones share what it has learned.
#[derive(Clone)]
pub(crate) struct Names {
    policy: Arc<Policy>,
    resolver: Resolver,
    limit: Duration,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    lookups: Arc<Semaphore>,
}

/// An address that a name has, the ports of the rule that allows connecting to the name, and
/// the end of that permission.
#[derive(Debug)]
struct Answer {
    address: IpAddr,
    ports: RangeInclusive<u16>,
    until: Instant,
}

impl Names {
    pub(super) fn new(policy: Policy, resolver: Resolver, limit: Option<Duration>) -> Self {
        Names {
            policy: Arc::new(policy),
            resolver,
            limit: limit.unwrap_or(LONGEST),
            answers: Arc::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }

    /// Whether the guest may connect to an address: by a rule for addresses, or because a name
    /// that a rule allows had it within the last minute.
    pub(crate) fn may_connect(&self, address: SocketAddr) -> bool {
        self.policy.may_connect(address) || self.holds(address)
    }

    /// Looks up a name. An address stands for itself, and nobody is asked.
    ///
    /// # Errors
    /// At once, what denies the name. The future resolves to other errors.
    pub(crate) fn lookup(
        &self,
        text: &str,
    ) -> Result<impl Future<Output = Result<Vec<IpAddr>, LookupError>> + Send + use<>, Denied> {
        let named = Named::parse(text);
        if let Some(Named::Name(name)) = &named
            && !self.policy.may_lookup(name)
        {
            return Err(Denied::Lookup(name.clone()));
        }
        let names = self.clone();
        Ok(async move {
            match named {
                Some(Named::Name(name)) => names.ask(&name).await,
                Some(Named::Address(address)) => Ok(vec![address]),
                None => Err(LookupError::Invalid),
            }
        })
    }

    /// Asks for the addresses of a name, and remembers them.
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        // The semaphore is never closed.
        let _turn = self.lookups.acquire().await;
        let found = match timeout(self.limit, self.resolver.0.resolve(name)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(LookupError::Failed(error.to_string())),
            Err(_) => return Err(LookupError::Timeout),
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found {
            let address = address.to_canonical();
            if addresses.len() < ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(LookupError::Failed("the name has no address".to_owned()));
        }
        self.remember(name, &addresses);
        Ok(addresses)
    }

    /// Remembers the addresses of a name for the ports that a rule allows. Whoever answers for
    /// the name must not open the inner network: only a rule for addresses does.
    fn remember(&self, name: &str, addresses: &[IpAddr]) {
        let until = Instant::now() + HOLDS;
        let mut answers = self.answers();
        for ports in self.policy.ports_of(name) {
            for &address in addresses.iter().filter(|address| !is_private(**address)) {
                answers.retain(|old| old.address != address || old.ports != *ports);
                if answers.len() >= REMEMBERED {
                    answers.pop_front();
                }
                answers.push_back(Answer {
                    address,
                    ports: ports.clone(),
                    until,
                });
            }
        }
    }

    fn holds(&self, address: SocketAddr) -> bool {
        self.holds_at(address, Instant::now())
    }

    fn holds_at(&self, address: SocketAddr, now: Instant) -> bool {
        self.answers().iter().any(|answer| {
            answer.address == address.ip()
                && answer.ports.contains(&address.port())
                && now < answer.until
        })
    }

    fn answers(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        // No code panics while it holds the lock.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names")
            .field("policy", &self.policy)
            .field("answers", &self.answers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::tcp::{Resolve, Resolving};

    /// Answers with these addresses, one list after the other.
    struct Script(Mutex<Vec<Vec<&'static str>>>);

    impl Resolve for Script {
        fn resolve(&self, name: &str) -> Resolving {
            assert!(name.ends_with("example.com"), "{name}");
            let answer = self.0.lock().unwrap().pop();
            Box::pin(async move {
                let answer = answer.ok_or_else(|| io::Error::other("no such name"))?;
                Ok(answer.iter().map(|text| text.parse().unwrap()).collect())
            })
        }
    }

    fn names(rules: &[&str], mut answers: Vec<Vec<&'static str>>) -> Names {
        answers.reverse();
        let policy = rules.iter().fold(Policy::deny_all(), |policy, rule| {
            match (rule.parse(), rule.parse()) {
                (Ok(address), _) => policy.allow_connect(address),
                (_, Ok(host)) => policy.allow_connect_name(host),
                _ => policy.allow_lookup(rule.parse().unwrap()),
            }
        });
        let script = Script(Mutex::new(answers));
        Names::new(
            policy,
            Resolver(Arc::new(script)),
            Some(Duration::from_secs(5)),
        )
    }

    fn may(names: &Names, address: &str) -> bool {
        names.may_connect(address.parse().unwrap())
    }

    async fn lookup(names: &Names, name: &str) -> Result<Vec<String>, String> {
        let looking = names.lookup(name).map_err(|denied| denied.to_string())?;
        let found = looking.await.map_err(|error| error.to_string())?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn a_name_opens_what_it_resolves_to_and_nothing_else() {
        let names = names(&["example.com:443"], vec![vec!["192.0.2.1"]]);
        assert!(!may(&names, "192.0.2.1:443"));
        lookup(&names, "Example.com").await.unwrap();
        assert!(may(&names, "192.0.2.1:443"));
        assert!(!may(&names, "192.0.2.1:80"));
        assert!(!may(&names, "192.0.2.2:443"));
        let error = lookup(&names, "a.example.com").await.unwrap_err();
        assert_eq!(error, "the component may not look up a.example.com");
        let error = lookup(&names, "example.com").await.unwrap_err();
        assert_eq!(error, "no such name");
    }

    #[tokio::test]
    async fn a_name_does_not_open_the_inner_network() {
        let private = vec![
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "::1",
            "::ffff:10.0.0.1",
        ];
        let answers = vec![vec!["192.0.2.1"], private.clone(), private.clone()];
        let names = names(&["example.com:443", "10.0.0.1:443"], answers);
        lookup(&names, "example.com").await.unwrap();
        // The name is rebound.
        assert_eq!(lookup(&names, "example.com").await.unwrap()[0], "127.0.0.1");
        assert!(may(&names, "192.0.2.1:443"));
        for address in ["127.0.0.1:443", "169.254.169.254:443", "[::1]:443"] {
            assert!(!may(&names, address), "{address}");
        }
        // A rule for addresses names this one.
        assert!(may(&names, "10.0.0.1:443"));
        assert!(!may(&names, "10.0.0.1:80"));
    }

    #[tokio::test]
    async fn looking_up_opens_nothing_by_itself() {
        let names = names(&["*.example.com"], vec![vec!["192.0.2.1"]]);
        assert_eq!(
            lookup(&names, "a.example.com").await.unwrap(),
            ["192.0.2.1"]
        );
        assert!(!may(&names, "192.0.2.1:443"));
        assert!(lookup(&names, "example.com").await.is_err());
        assert_eq!(lookup(&names, "0x7f.1").await.unwrap(), ["127.0.0.1"]);
        assert_eq!(lookup(&names, "a b").await.unwrap_err(), "it is not a name");
    }

    #[tokio::test]
    async fn an_answer_holds_for_a_minute() {
        let answers = vec![vec!["192.0.2.1"], vec!["192.0.2.1"]];
        let names = names(&["example.com:443"], answers);
        let address = "192.0.2.1:443".parse().unwrap();
        let begin = Instant::now();
        lookup(&names, "example.com").await.unwrap();
        assert!(names.holds_at(address, begin + HOLDS * 9 / 10));
        let end = Instant::now() + HOLDS;
        assert!(!names.holds_at(address, end));
        // A further lookup begins another minute, and is no further answer.
        lookup(&names, "example.com").await.unwrap();
        assert!(names.holds_at(address, end));
        assert_eq!(names.answers().len(), 1);
    }

    #[tokio::test]
    async fn a_lookup_ends_in_time() {
        struct Never;
        impl Resolve for Never {
            fn resolve(&self, _: &str) -> Resolving {
                Box::pin(std::future::pending())
            }
        }
        let policy = Policy::inherit_network();
        let names = Names::new(
            policy,
            Resolver(Arc::new(Never)),
            Some(Duration::from_millis(20)),
        );
        let error = lookup(&names, "example.com").await.unwrap_err();
        assert_eq!(error, "it took too long");
    }
}
