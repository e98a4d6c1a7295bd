//! The values that a check compares, as text.

use super::super::attempt::Attempt;
use super::super::checks::{Check, CheckInput};
use super::super::denial::DenialReason;
use crate::clock::{WallClockReading, from_unix_micros, rfc3339};
use crate::key::{KeyFormat, KeyRecord, Scope};

/// Returns the values for which a check has failed. `None` if the reason names them.
pub(super) fn compared(
    check: Check,
    reason: &DenialReason,
    record: &KeyRecord,
    input: &CheckInput<'_>,
) -> Option<String> {
    let (attempt, format) = (input.attempt, &input.cache.reads.compiler.format);
    let restrictions = record.restrictions();
    Some(match check {
        Check::Environment => {
            let named = [input.credential.environment, attempt.environment];
            let named: Vec<_> = named.iter().flatten().map(|name| name.as_str()).collect();
            let accepted: Vec<_> = format.environments().map(|name| name.as_str()).collect();
            format!(
                "it is of {}, the request names {}, and accepted here are {}",
                record.environment(),
                listed(&named),
                listed(&accepted)
            )
        }
        Check::Format => {
            let of_key = record.legacy_format().unwrap_or(record.prefix());
            let presented = input.credential.legacy.unwrap_or("the application's own");
            format!("it is of `{of_key}`, and the text is of {presented}")
        }
        Check::Tenant => {
            let addressed = attempt.tenant?;
            format!(
                "it is of {}, the request addresses {addressed}",
                record.tenant()
            )
        }
        Check::Status => return status(reason, record, &input.wall),
        Check::Network => match attempt.client {
            Some(client) => format!("{client} is not in {}", restrictions.networks),
            None => format!("the networks are {}", restrictions.networks),
        },
        Check::Access => {
            let lists = attempt.requirement.sufficient_scopes();
            let lists = lists.iter().map(|scopes| {
                let scopes: Vec<_> = scopes.iter().map(Scope::as_str).collect();
                scopes.join(" and ")
            });
            let lists: Vec<_> = lists.collect();
            let needed = match lists.as_slice() {
                [] => "full access".to_owned(),
                lists => lists.join(", or "),
            };
            format!("needed: {needed}; held: {}", restrictions.access)
        }
        Check::Resources => {
            let named = attempt.named_resources();
            let named: Vec<_> = named.map(|named| resource(named, format)).collect();
            let named: Vec<_> = named.iter().map(String::as_str).collect();
            format!(
                "the request names {}; permitted: {}",
                listed(&named),
                restrictions.resources
            )
        }
    })
}

/// Returns the instants for which a key's status refuses it.
fn status(
    reason: &DenialReason,
    record: &KeyRecord,
    wall: &WallClockReading<'_>,
) -> Option<String> {
    let now = wall.exact().ok().and_then(from_unix_micros).map(rfc3339);
    let now = now.unwrap_or_else(|| "unknown".to_owned());
    let restrictions = record.restrictions();
    Some(match reason {
        DenialReason::Expired => {
            let end = rfc3339(restrictions.expires_at?);
            format!("its end was {end}, and it is {now}")
        }
        DenialReason::Superseded => {
            let rotated = record.rotation()?;
            let end = rfc3339(rotated.overlap_ends?);
            let successor = rotated.successor;
            format!("{successor}, the overlap ended at {end}, and it is {now}")
        }
        DenialReason::Suspended => format!("since {}", rfc3339(record.suspended_at()?)),
        DenialReason::NotYetValid => {
            let start = rfc3339(restrictions.not_before?);
            format!("it begins at {start}, and it is {now}")
        }
        DenialReason::CutOff => {
            let (issued, cutoff) = (rfc3339(record.created_at()), rfc3339(record.cutoff?));
            format!(
                "it was issued at {issued}, and the latest cutoff of its owner, tenant or all tenants is at {cutoff}"
            )
        }
        DenialReason::ClockBehind => {
            let issued = rfc3339(record.created_at());
            format!("it was issued at {issued}, and the clock says {now}")
        }
        _ => return None,
    })
}

/// Returns a resource as the request names it, on one line and without the text of a key.
fn resource((kind, value): (&str, &str), format: &KeyFormat) -> String {
    let named = format!("{kind}:{value}");
    format.redactor().redact(&named).escape_debug().to_string()
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

/// Returns the name of a check, and the value that it compares.
pub(super) fn shown(
    check: Check,
    record: &KeyRecord,
    attempt: &Attempt<'_>,
) -> (&'static str, String) {
    match check {
        Check::Environment => ("environment", record.environment().to_string()),
        Check::Format => (
            "format",
            record.legacy_format().unwrap_or(record.prefix()).to_owned(),
        ),
        Check::Tenant => ("tenant", record.tenant().to_string()),
        Check::Status => {
            let end = record.restrictions().expires_at;
            let until = end.map_or_else(
                || "until revoked".to_owned(),
                |end| format!("until {}", rfc3339(end)),
            );
            ("status", format!("active {until}"))
        }
        Check::Network => {
            let client = attempt
                .client
                .map_or_else(|| "unknown".to_owned(), |client| client.to_string());
            (
                "network",
                format!("{client} in {}", record.restrictions().networks),
            )
        }
        Check::Access => ("access", record.restrictions().access.to_string()),
        Check::Resources => ("resources", record.restrictions().resources.to_string()),
    }
}
