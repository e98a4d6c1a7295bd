//! The memory that a key's record takes.

use serde_json::Value;

use crate::key::{Access, KeyRecord, Networks, Resources};

/// Overhead of an allocation, in bytes.
pub(super) const ALLOCATION: usize = 16;

/// Returns about how many bytes a record's texts and lists take, with allocations rounded up.
pub(super) fn of(record: &KeyRecord) -> usize {
    let texts = [
        record.tenant().as_str().len(),
        record.title().as_str().len(),
        record.owner().to_string().len(),
        record.created_by().to_string().len(),
        record.prefix().len(),
        record.environment().as_str().len(),
        record.digest().expose().len(),
        record.legacy_format().map_or(0, str::len) * 3,
    ];
    let texts: usize = texts.iter().map(|length| length + 2 * ALLOCATION).sum();
    let scopes = match &record.restrictions().access {
        Access::Full => 0,
        Access::Scopes(scopes) => scopes
            .iter()
            .map(|scope| scope.as_str().len() + 3 * ALLOCATION)
            .sum(),
    };
    let resources = match &record.restrictions().resources {
        Resources::Any => 0,
        Resources::Only(list) => list
            .iter()
            .map(|one| one.kind().len() + one.value().len() + 6 * ALLOCATION)
            .sum(),
    };
    let networks = match &record.restrictions().networks {
        Networks::Any => 0,
        Networks::Only(list) => list.len() * 2 * ALLOCATION,
    };
    let quotas = record.restrictions().quotas.len() * 4 * ALLOCATION;
    let metadata: usize = record
        .metadata()
        .as_object()
        .iter()
        .map(|(name, value)| member(name, value))
        .sum();
    texts + scopes + resources + networks + quotas + metadata
}

/// Returns the size of a member of an object. Nodes of the map hold eleven members, and are half full at worst.
fn member(name: &str, value: &Value) -> usize {
    name.len()
        + 2 * (size_of::<String>() + size_of::<Value>())
        + 8 * ALLOCATION
        + self::value(value)
}

fn value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() + ALLOCATION,
        Value::Array(list) => {
            ALLOCATION
                + list
                    .iter()
                    .map(|one| 2 * size_of::<Value>() + self::value(one))
                    .sum::<usize>()
        }
        Value::Object(object) => {
            // The first node is allocated whole.
            11 * (size_of::<String>() + size_of::<Value>())
                + object
                    .iter()
                    .map(|(name, value)| member(name, value))
                    .sum::<usize>()
        }
    }
}
