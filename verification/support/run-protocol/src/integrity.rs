//! `@integrity`: a disk under test.

use alloc::string::String;

use crate::line::lines;
use crate::record::record;

lines! {
    /// One line.
    pub enum Line: "@integrity" {
        /// The test could not begin.
        Refused(Refused) = "refused",
        /// The progress of the run.
        Progress(Progress) = "progress",
        /// A block with a wrong content.
        Wrong(Wrong) = "wrong",
        /// The number of instances that were ended.
        Kills(Kills) = "kills",
        /// The last line.
        End(End) = "end",
    }
}

record! {
    /// The test could not begin.
    pub struct Refused {
        /// The reason.
        pub reason: String,
    }
}

record! {
    /// The progress of the run.
    pub struct Progress {
        /// The counters as text.
        pub counters: String,
    }
}

record! {
    /// A block with a wrong content.
    pub struct Wrong {
        /// The block, the expected content and the content found.
        pub what: String,
    }
}

record! {
    /// The number of instances that were ended.
    pub struct Kills {
        /// The domain.
        pub domain: String,
        /// The number of its instances.
        pub count: u64,
    }
}

record! {
    /// The last line.
    pub struct End {
        /// The counters as text.
        pub report: String,
    }
}
