//! Records of the run protocol inside of reports, as the JSON that they print. They do not implement
//! [`Serialize`]: domains link their crate, and may not link serde.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::Value;

fn value<E: Error>(record: &impl Display) -> Result<Value, E> {
    serde_json::from_str(&record.to_string()).map_err(E::custom)
}

/// Serializes an optional record.
pub(crate) fn option<T: Display, S: Serializer>(
    record: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    record.as_ref().map(value::<S::Error>).transpose()?.serialize(serializer)
}

/// Serializes a list of records.
pub(crate) fn list<T: Display, S: Serializer>(records: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    records.iter().map(value::<S::Error>).collect::<Result<Vec<_>, _>>()?.serialize(serializer)
}

/// Serializes records by name.
pub(crate) fn map<T: Display, S: Serializer>(
    records: &BTreeMap<String, T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let values = records.iter().map(|(name, record)| Ok((name, value::<S::Error>(record)?)));
    values.collect::<Result<BTreeMap<_, _>, S::Error>>()?.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use crate::recovery::sample_log;

    #[test]
    fn a_report_contains_the_records_under_their_names() {
        let mut log = sample_log();
        log.record_violation("a \"quoted\" reason".to_owned());
        let json = serde_json::to_value(&log).expect("the log has a JSON form");
        assert_eq!(json["begin"]["driver"], "nvme");
        assert_eq!(json["crashes"][1]["fault"], "Panic");
        assert_eq!(json["domains"]["nvme"]["bytes"], 8192);
        assert_eq!(json["broken"][0]["what"], "a \"quoted\" reason");
        assert_eq!(json["meters"][0]["unit"], "bytes");
    }
}
