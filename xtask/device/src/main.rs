//! Hosts device models for machines outside of this process: our bare one in QEMU ([`ivshmem`]), and any that speaks VFIO-user
//! ([`vfio`]).
//!
//! The models are those of the hosted machine, with the same options. docs/devices.md says how to attach them to what.

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

use crate::ivshmem::Introduction;

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
        /// How much memory the machine has, the same as QEMU's -m
        #[arg(long, value_parser = parse_size)]
        memory: u64,
        /// MODEL or MODEL,OPTIONS; may be repeated
        #[arg(long = "device", required = true)]
        devices: Vec<String>,
        /// When the machine is told how to ring for the devices; for tests
        #[arg(long, value_enum, default_value_t = Introduction::Whole, hide = true)]
        introduction: Introduction,
        /// QEMU and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// What `qemu` leaves the devices to
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        memory: u64,
        #[arg(long = "device", required = true)]
        devices: Vec<DeviceOption>,
        #[arg(long, value_enum, default_value_t = Introduction::Whole)]
        introduction: Introduction,
    },
    /// Serve any machine that speaks VFIO-user, such as QEMU's vfio-user-pci, one after the other
    VfioUser {
        /// MODEL or MODEL,OPTIONS
        device: DeviceOption,
        /// Where it is to be had
        #[arg(long)]
        socket: PathBuf,
        /// Serve one machine and end
        #[arg(long)]
        once: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().machine {
        Machine::Qemu { memory, devices, introduction, command } => {
            launch::become_qemu(memory, &devices, introduction, &command)
        }
        Machine::Serve { memory, devices, introduction } => ivshmem::serve(memory, &devices, introduction),
        Machine::VfioUser { device, socket, once } => vfio::run(&device, &socket, once),
    }
}
