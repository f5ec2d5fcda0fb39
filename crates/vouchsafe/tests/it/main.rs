//! Tests through the real binary, against real peers.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "all of this is test code: a broken expectation ends the test"
)]

mod api;
mod approval;
mod assess;
mod attacks;
mod browser;
mod certificates;
mod chrome;
mod clock;
mod conformance;
mod connectors;
mod crash;
mod database;
mod devices;
mod disk;
mod exports;
mod faults;
mod first_run;
mod floods;
mod foreign_pages;
mod http;
mod http3;
mod installation;
mod killed;
mod learning;
mod logs;
mod modes;
mod network;
mod news;
mod papers;
mod peers;
mod proof;
mod proxies;
mod replays;
mod requests;
mod roles;
mod sandbox;
mod ssh;
mod step_up;
mod tampering;
mod templates;
mod tls;
mod traces;
mod udp;
mod upstreams;
mod vitals;
mod webhooks;
mod week;
mod witnesses;
mod workbench;
mod world;
