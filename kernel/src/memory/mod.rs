//! Memory: frames with their owners, the kernel's heap on them, and stacks.

pub(crate) mod frames;
pub mod heap;
pub(crate) mod stack;
