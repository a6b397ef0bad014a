//! `halfopen serve` as an operator runs it, on real sockets: limits, policy, reload, TLS, load
//! balancers, systemd, logs and metrics, and attacks.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

mod operator {
    mod across_upgrades;
    mod activation;
    mod admin;
    mod admission;
    mod arrivals;
    mod attaching;
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
    mod handed_over;
    mod handing_over;
    mod host;
    mod image;
    mod isolation;
    mod kubernetes;
    mod kv;
    mod lawful;
    mod limits;
    mod log_file;
    mod logging;
    mod metrics;
    mod not_handed_over;
    mod observing;
    mod packaging;
    mod programs;
    mod recording;
    mod recordings;
    mod redis;
    mod reload;
    mod requests;
    mod resp;
    mod secure;
    mod starttls;
    mod state;
    mod stopping;
    mod streams;
    mod successor;
    mod terminal;
    mod topics;
    mod unread;
    mod upgrading;
    mod usage;
    mod viewing;
    mod watched;
    mod watched_recording;
    mod watching;
}
