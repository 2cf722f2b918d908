//! The program as its users meet it: the built one, as a process. One test program, because each one costs a link of its own.

#[path = "../api_client/mod.rs"]
mod api_client;
#[path = "../cli_program/mod.rs"]
mod cli_program;
#[path = "../json_shape/mod.rs"]
mod json_shape;
#[path = "../nbd_client/mod.rs"]
mod nbd_client;
#[path = "../vhost_client/mod.rs"]
mod vhost_client;

mod api;
mod bad_input;
mod broken_pool;
mod conventions;
mod devices;
mod engines;
mod export;
mod full;
mod limits;
mod seed;
mod service;
mod session;
mod shapes;
mod tour;
