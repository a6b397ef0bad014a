//! `halfopen serve` as an operator runs it, on real sockets: limits, policy, reload, TLS, load
//! balancers, systemd, logs and metrics, and attacks.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

mod operator {
    mod activation;
    mod admin;
    mod admission;
    mod arrivals;
    mod attack;
    mod balancer;
    mod configuration;
    mod control;
    mod cookbook;
    mod draining;
    mod durable;
    mod ended;
    mod files;
    mod gateway;
    mod grants;
    mod greedy;
    mod guard_postgres;
    mod guard_redis;
    mod host;
    mod isolation;
    mod kv;
    mod lawful;
    mod limits;
    mod logging;
    mod metrics;
    mod observing;
    mod packaging;
    mod programs;
    mod redis;
    mod reload;
    mod requests;
    mod resp;
    mod secure;
    mod starttls;
    mod state;
    mod stopping;
    mod streams;
    mod terminal;
    mod topics;
    mod unread;
    mod upgrading;
    mod usage;
    mod watched;
    mod watching;
}
