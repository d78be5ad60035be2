//! Tests of the loader: accepted images and their layout in memory, refused images with one test for each
//! reason, and mutations of both.

mod accepted;
mod builder;
mod mutated;
mod refused;
