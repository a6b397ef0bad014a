//! Rules for addresses: what is taken is written back as what is taken, and means the same.

#![no_main]

use std::net::SocketAddr;

use halfopen::{AddressRule, Policy};

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (rule, address) = input;
    let Ok(rule) = rule.parse::<AddressRule>() else {
        return;
    };
    let written: AddressRule = rule
        .to_string()
        .parse()
        .expect("it is written as it is read");
    assert_eq!(written, rule);
    if let Ok(address) = address.parse::<SocketAddr>() {
        let policy = Policy::deny_all().allow_connect(rule.clone());
        // Never more than the rule says.
        assert!(rule.matches(address) || !policy.connects(address));
    }
});
