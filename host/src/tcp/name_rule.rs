//! Sets of names, as users write them.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use url::Host;

use super::rule::{ports, write_ports};

/// What a guest names: a name in ASCII, in lower case and without a final dot, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Name(String),
    Address(IpAddr),
}

impl Named {
    /// Reads a name. Other letters than those of ASCII are encoded (IDNA), and every way to
    /// write an IPv4 address is that address: what looks up names could understand it as well.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Named::Address(address));
        }
        let name = match Host::parse(text).ok()? {
            Host::Domain(name) => name,
            Host::Ipv4(address) => return Some(Named::Address(address.into())),
            Host::Ipv6(address) => return Some(Named::Address(address.into())),
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        // RFC 1035, section 2.3.4.
        let label = |label: &str| (1..=63).contains(&label.len());
        (name.len() <= 253 && name.split('.').all(label)).then(|| Named::Name(name.to_owned()))
    }
}

/// A set of names.
///
/// The text form is a name, `*.` and a name for all names below it, or `*` for every name.
///
/// ```
/// use halfopen::NameRule;
///
/// let rule: NameRule = "*.example.com".parse().unwrap();
/// assert!(rule.matches("api.eu.example.com"));
/// assert!(!rule.matches("example.com"));
/// assert!("192.0.2.1".parse::<NameRule>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// The name; empty for every name.
    name: String,
    /// Whether the names below it are meant.
    below: bool,
}

impl NameRule {
    /// Whether `name`, in lower case and without a final dot, is in the set.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.below {
            false => name == self.name,
            true if self.name.is_empty() => true,
            true => name
                .strip_suffix(&self.name)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

/// The error of a text that is not a [`NameRule`] or a [`HostRule`].
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a {form}")]
pub struct NameRuleError {
    text: String,
    form: &'static str,
}

impl FromStr for NameRule {
    type Err = NameRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| NameRuleError {
            text: text.to_owned(),
            form: "name; write example.com, *.example.com for all names below it, or * for every name",
        })
    }
}

fn parse(text: &str) -> Option<NameRule> {
    if text == "*" {
        let name = String::new();
        return Some(NameRule { name, below: true });
    }
    let (text, below) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    match Named::parse(text)? {
        Named::Name(name) if !name.contains('*') => Some(NameRule { name, below }),
        _ => None,
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.below, &*self.name) {
            (false, name) => f.write_str(name),
            (true, "") => f.write_str("*"),
            (true, name) => write!(f, "*.{name}"),
        }
    }
}

/// A set of names, and a range of ports.
///
/// The text form is `NAME:PORT`, `NAME:LOW-HIGH` or `NAME:*`, where `NAME` is a [`NameRule`].
///
/// ```
/// use halfopen::HostRule;
///
/// let rule: HostRule = "example.com:443".parse().unwrap();
/// assert!(rule.matches("example.com", 443));
/// assert!(!rule.matches("example.com", 80));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    name: NameRule,
    ports: RangeInclusive<u16>,
}

impl HostRule {
    /// Whether `port` of `name`, in lower case and without a final dot, is in the set.
    #[must_use]
    pub fn matches(&self, name: &str, port: u16) -> bool {
        self.name.matches(name) && self.ports.contains(&port)
    }

    pub(super) fn name(&self) -> &NameRule {
        &self.name
    }

    pub(super) fn ports(&self) -> &RangeInclusive<u16> {
        &self.ports
    }
}

impl FromStr for HostRule {
    type Err = NameRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let (name, range) = text.rsplit_once(':')?;
            Some(HostRule {
                name: parse(name)?,
                ports: ports(range)?,
            })
        };
        parts().ok_or_else(|| NameRuleError {
            text: text.to_owned(),
            form: "name with a port; write NAME:PORT, NAME:LOW-HIGH or NAME:*, such as \
                   example.com:443 or *.example.com:8000-8999",
        })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        write_ports(f, &self.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<String> {
        match Named::parse(text)? {
            Named::Name(name) => Some(name),
            Named::Address(address) => Some(format!("[{address}]")),
        }
    }

    #[test]
    fn a_name_has_one_form() {
        for (text, expected) in [
            ("Example.COM.", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
            ("127.0.0.1", "[127.0.0.1]"),
            ("0x7f.1", "[127.0.0.1]"),
            ("2130706433", "[127.0.0.1]"),
            ("::1", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(name(text).as_deref(), Some(expected), "{text}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "a:80",
            "a\0b",
            "256.1.1.1",
            &long,
        ] {
            assert_eq!(name(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_star_stands_for_the_names_below() {
        let rule = |text: &str| text.parse::<NameRule>().unwrap();
        assert!(rule("Example.com").matches("example.com"));
        assert!(!rule("example.com").matches("a.example.com"));
        assert!(rule("*.example.com").matches("a.b.example.com"));
        for other in [
            "example.com",
            "badexample.com",
            ".example.com",
            "example.com.evil",
        ] {
            assert!(!rule("*.example.com").matches(other), "{other}");
        }
        assert!(rule("*").matches("anything"));
        for text in [
            "",
            "*.",
            "**",
            "a.*",
            "*a.example",
            "127.0.0.1",
            "::1",
            "*.10.0.0.1",
        ] {
            let error = text.parse::<NameRule>().unwrap_err().to_string();
            assert!(error.contains("*.example.com"), "{error}");
        }
    }

    #[test]
    fn a_name_with_ports_is_displayed_as_it_was_written() {
        for text in ["example.com:443", "*.example.com:1-9", "*:*"] {
            assert_eq!(text.parse::<HostRule>().unwrap().to_string(), text);
        }
        for text in [
            "example.com",
            "example.com:",
            ":443",
            "example.com:65536",
            "[::1]:80",
        ] {
            let error = text.parse::<HostRule>().unwrap_err().to_string();
            assert!(error.contains("example.com:443"), "{error}");
        }
    }
}
