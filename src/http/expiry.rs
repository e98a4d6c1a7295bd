//! Headers that tell the holder of a key when it ends.

use time::{OffsetDateTime, UtcOffset};

use crate::key::KeyRecord;

/// Returns the headers for a key with this record. See [`Edge::expiry_headers`](super::Edge::expiry_headers).
pub(super) fn fields(record: &KeyRecord) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let rotated = record.rotation().map(|rotated| rotated.at);
    let dates = [
        ("api-key-expires", record.end()),
        ("api-key-rotated", rotated),
    ];
    let dates = dates.into_iter();
    dates.filter_map(|(name, at)| Some((name, http_date(at?))))
}

/// Formats an instant as HTTP does (RFC 9110 §5.6.7), in whole seconds: never later than the instant.
fn http_date(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    let short = |name: &str| name.chars().take(3).collect::<String>();
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        short(&weekday),
        at.day(),
        short(&month),
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        for (micros, text) in [
            (784_111_777_000_000, "Sun, 06 Nov 1994 08:49:37 GMT"), // the example of RFC 9110
            (784_111_777_999_999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
        ] {
            let at = crate::clock::from_unix_micros(micros).unwrap();
            assert_eq!(http_date(at), text);
            let elsewhere = at.to_offset(UtcOffset::from_hms(-11, -30, 0).unwrap());
            assert_eq!(http_date(elsewhere), text);
        }
    }
}
