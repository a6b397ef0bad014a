//! `halfopen serve` as an operator runs it, on real sockets: limits, policy, reload, TLS, load
//! balancers, systemd, logs and metrics, and attacks.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

mod operator {
    mod activation;
    mod attack;
    mod balancer;
    mod configuration;
    mod greedy;
    mod host;
    mod limits;
    mod observing;
    mod reload;
    mod secure;
    mod terminal;
}
