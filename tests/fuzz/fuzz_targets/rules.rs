//! Parses arbitrary text as a rule for addresses or names: a rule must survive being written and
//! parsed again, and one for addresses must never allow an address that it does not match.

#![no_main]

use std::net::SocketAddr;

use halfopen::{AddressRule, HostRule, NameRule, Policy};

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (rule, address) = input;
    if let Ok(rule) = rule.parse::<HostRule>() {
        let written: HostRule = rule.to_string().parse().expect("a written rule parses");
        assert_eq!(written, rule);
    }
    if let Ok(rule) = rule.parse::<NameRule>() {
        let written: NameRule = rule.to_string().parse().expect("a written rule parses");
        assert_eq!(written, rule);
    }
    let Ok(rule) = rule.parse::<AddressRule>() else {
        return;
    };
    let written: AddressRule = rule.to_string().parse().expect("a written rule parses");
    assert_eq!(written, rule);
    if let Ok(address) = address.parse::<SocketAddr>() {
        let policy = Policy::deny_all().allow_connect(rule.clone());
        assert!(rule.matches(address) || !policy.may_connect(address));
    }
});
