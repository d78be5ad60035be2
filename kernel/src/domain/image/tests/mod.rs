//! What is accepted and how it is loaded; what is refused, one test for each reason; and mutations of all that.

mod accepted;
mod builder;
mod mutated;
mod refused;
