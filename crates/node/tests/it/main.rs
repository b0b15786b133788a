//! Tests of the `synod` program in real processes.
#![forbid(unsafe_code)]

mod cli;
mod cluster;
mod damage;
mod dev;
mod forged;
mod full_disk;
mod kill;
mod partition;
mod pause;
mod support;
mod syncs;
