//! `@bench`: the figures of a benchmark.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::json::{Json, JsonError};
use crate::line::lines;
use crate::record::{Record, Value, read_field, write_field};

lines! {
    /// One line.
    pub enum Line: "@bench" {
        /// One figure.
        Figure(Figure) = "figure",
    }
}

/// One figure.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// The name of the figure, as `group/name`.
    pub id: String,
    /// The unit of the values below, such as `tsc_cycles`.
    pub unit: String,
    /// The number of samples; 0 for a figure that this machine does not have.
    pub n: u64,
    /// The minimum of the samples.
    pub min: Option<f64>,
    /// The median of the samples.
    pub median: f64,
    /// Their 99th percentile.
    pub p99: Option<f64>,
    /// Further values of the benchmark by name, such as batch and depth. In a line they stand beside the
    /// others.
    pub more: Vec<(String, f64)>,
}

/// The names of the fields before [`Figure::more`].
const NAMES: [&str; 6] = ["id", "unit", "n", "min", "median", "p99"];

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, unit, n, min, median, p99, more } = self;
        f.write_str("{")?;
        let mut written = 0;
        write_field(f, &mut written, "id", id)?;
        write_field(f, &mut written, "unit", unit)?;
        write_field(f, &mut written, "n", n)?;
        write_field(f, &mut written, "min", min)?;
        write_field(f, &mut written, "median", median)?;
        write_field(f, &mut written, "p99", p99)?;
        for (name, value) in more {
            write_field(f, &mut written, name, value)?;
        }
        f.write_str("}")
    }
}

impl Record for Figure {
    fn from_fields(fields: &[(String, Json)]) -> Result<Self, JsonError> {
        let more = fields.iter().filter(|(name, _)| !NAMES.contains(&name.as_str()));
        let number = |(name, value): &(String, Json)| match f64::read(value) {
            Some(value) => Ok((name.clone(), value)),
            None => Err(JsonError::Unknown { name: name.clone() }),
        };
        Ok(Self {
            id: read_field(fields, "id")?,
            unit: read_field(fields, "unit")?,
            n: read_field(fields, "n")?,
            min: read_field(fields, "min")?,
            median: read_field(fields, "median")?,
            p99: read_field(fields, "p99")?,
            more: more.map(number).collect::<Result<_, _>>()?,
        })
    }
}

impl Figure {
    /// A figure without spread.
    pub fn new(id: &str, unit: &str, n: u64, median: f64) -> Self {
        Self { id: id.into(), unit: unit.into(), n, min: None, median, p99: None, more: Vec::new() }
    }

    /// Adds the minimum and the 99th percentile.
    #[must_use]
    pub fn with_spread(self, min: f64, p99: f64) -> Self {
        Self { min: Some(min), p99: Some(p99), ..self }
    }

    /// Adds further values.
    #[must_use]
    pub fn with<'a>(mut self, more: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        self.more.extend(more.into_iter().map(|(name, value)| (name.into(), value)));
        self
    }
}
