//! Whole-product tests: real containers, stock clients. They need root, a
//! static busybox, the AWS CLI and boto3; `scripts/test` brings them.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "e2e/attacks.rs"]
mod attacks;
#[path = "e2e/cli.rs"]
mod cli;
#[path = "e2e/clients.rs"]
mod clients;
#[path = "e2e/crash.rs"]
mod crash;
#[path = "e2e/daemons.rs"]
mod daemons;
#[path = "e2e/deploy.rs"]
mod deploy;
#[path = "e2e/endpoint.rs"]
mod endpoint;
#[path = "e2e/ends.rs"]
mod ends;
#[path = "e2e/env_files.rs"]
mod env_files;
#[path = "e2e/exec.rs"]
mod exec;
#[path = "e2e/exec_client.rs"]
mod exec_client;
#[path = "e2e/exec_logs.rs"]
mod exec_logs;
#[path = "e2e/firelens.rs"]
mod firelens;
#[path = "e2e/flow.rs"]
mod flow;
#[path = "e2e/hostile.rs"]
mod hostile;
#[path = "e2e/ipv6.rs"]
mod ipv6;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/log_drivers.rs"]
mod log_drivers;
#[path = "e2e/logs.rs"]
mod logs;
#[path = "e2e/members.rs"]
mod members;
#[path = "e2e/ports.rs"]
mod ports;
#[path = "e2e/real.rs"]
mod real;
#[path = "e2e/registry.rs"]
mod registry;
#[path = "e2e/rehearse.rs"]
mod rehearse;
#[path = "e2e/restart.rs"]
mod restart;
#[path = "e2e/s3_server.rs"]
mod s3_server;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/security_groups.rs"]
mod security_groups;
#[path = "e2e/services.rs"]
mod services;
#[path = "e2e/spot.rs"]
mod spot;
#[path = "e2e/storage.rs"]
mod storage;
#[path = "e2e/volumes.rs"]
mod volumes;
