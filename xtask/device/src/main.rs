//! Hosts device models for machines outside of this process: the bare machine in QEMU ([`ivshmem`]), and
//! VFIO-user clients ([`vfio`]).
//!
//! The models are those of the hosted machine, with the same options. docs/devices.md describes how to attach
//! them.

#![forbid(unsafe_code)]

mod ivshmem;
mod launch;
mod mailbox;
mod memory;
mod vfio;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use device_bus::parse_size;
use device_models::DeviceOption;

use crate::ivshmem::Announcement;

/// Hosts device models for machines outside of this process
#[derive(Parser)]
#[command(name = "coppice-device")]
struct Arguments {
    #[command(subcommand)]
    machine: Machine,
}

#[derive(Subcommand)]
enum Machine {
    /// Become QEMU, with these devices besides those of its arguments
    Qemu {
        /// Memory of the machine, equal to QEMU's -m
        #[arg(long, value_parser = parse_size)]
        memory: u64,
        /// MODEL or MODEL,OPTIONS; may be repeated
        #[arg(long = "device", required = true)]
        devices: Vec<String>,
        /// Time at which the machine learns how to notify the devices; for tests
        #[arg(long, value_enum, default_value_t = Announcement::Immediate, hide = true)]
        announce: Announcement,
        /// QEMU and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Serve the devices of a machine started by `qemu`
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        memory: u64,
        #[arg(long = "device", required = true)]
        devices: Vec<DeviceOption>,
        #[arg(long, value_enum, default_value_t = Announcement::Immediate)]
        announce: Announcement,
    },
    /// Serve VFIO-user clients such as QEMU's vfio-user-pci, one after the other
    VfioUser {
        /// MODEL or MODEL,OPTIONS
        device: DeviceOption,
        /// Path of the socket to create
        #[arg(long)]
        socket: PathBuf,
        /// Exit after the first client
        #[arg(long)]
        once: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().machine {
        Machine::Qemu { memory, devices, announce, command } => {
            launch::become_qemu(memory, &devices, announce, &command)
        }
        Machine::Serve { memory, devices, announce } => ivshmem::serve(memory, &devices, announce),
        Machine::VfioUser { device, socket, once } => vfio::run(&device, &socket, once),
    }
}
