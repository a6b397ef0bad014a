//! `halfopen serve` as an operator has it: limits, policy, reload, TLS, load balancers,
//! systemd, logs and metrics, and what attackers do. On real sockets.

#![allow(clippy::print_stdout, reason = "a test tells what it did")]

mod operator {
    mod activation;
    mod attack;
    mod balancer;
    mod configuration;
    mod host;
    mod limits;
    mod observing;
    mod reload;
    mod secure;
    mod terminal;
}
