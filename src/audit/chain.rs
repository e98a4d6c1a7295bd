//! The hash chain of the audit log, which makes an edited, removed or reordered event show.
//!
//! An attacker who can write the whole log can also recompute the whole chain. The chain shows tampering only to an
//! operator who has kept a head outside the store.
//!
//! The oldest events can be cut. The event that records the cut is in the chain itself, and names the number and the
//! hash of the last event that was cut. The rest of the log is verified from there. A head from before the last cut
//! event can no longer be compared: keep a newer one before each cut.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Event;

use crate::codes::codes;

const DOMAIN: &[u8] = b"keyward/event/v1";

/// The end of the chain: the number of events so far and the hash of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChainHead {
    /// The number of events.
    pub events: u64,
    /// SHA-256 of the last event; zeros before the first. In JSON it is lower-case hex.
    #[serde(with = "super::hex")]
    pub hash: [u8; 32],
}

impl ChainHead {
    /// Appends an event, and returns it with its place in the chain and the new head.
    #[must_use]
    pub fn seal(self, event: Event) -> (SealedEvent, Self) {
        let number = self.events.saturating_add(1);
        let line = event.to_line();
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(number.to_be_bytes());
        hash.update(self.hash);
        hash.update(line.as_bytes());
        let head = Self {
            events: number,
            hash: hash.finalize().into(),
        };
        let sealed = SealedEvent {
            number,
            event,
            hash: head.hash,
        };
        (sealed, head)
    }
}

/// An event with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedEvent {
    /// The event's number, counted from 1.
    pub number: u64,
    /// The event.
    pub event: Event,
    /// SHA-256 of `keyward/event/v1`, the number (8 bytes, big-endian), the hash of the event before, and the event's
    /// [line](Event::to_line). In JSON it is lower-case hex.
    #[serde(with = "super::hex")]
    pub hash: [u8; 32],
}

impl SealedEvent {
    /// Returns the head of the chain after this event, to keep outside the store.
    #[must_use]
    pub fn head(&self) -> ChainHead {
        ChainHead {
            events: self.number,
            hash: self.hash,
        }
    }
}

/// Checks that these events follow the head and each other, and returns the head after them.
///
/// # Errors
/// [`ChainBreak`] names the first event that does not fit.
pub fn verify_chain<'a>(
    from: ChainHead,
    events: impl IntoIterator<Item = &'a SealedEvent>,
) -> Result<ChainHead, ChainBreak> {
    events.into_iter().try_fold(from, |head, sealed| {
        let (expected, next) = head.seal(sealed.event.clone());
        if expected == *sealed {
            Ok(next)
        } else {
            Err(ChainBreak {
                number: expected.number,
            })
        }
    })
}

/// Checks all events of a log from the first one on, and returns the head after them.
///
/// If the oldest events were [cut](super::EventAction::EventsCut), the log must begin right after a
/// [checkpoint](Event::checkpoint) that one of its events records.
///
/// ```
/// # async fn audit(store: &dyn keyward::store::KeyStore, kept: keyward::audit::ChainHead)
/// #     -> Result<(), Box<dyn std::error::Error>> {
/// use keyward::audit::verify_log;
///
/// let log = store.events().ok_or("the store keeps no events")?;
/// let events = log.read(None, 0, usize::MAX).await?; // of all tenants
/// verify_log(&events)?;
/// // The head that was kept outside the store is still the hash of that event.
/// assert!(events.iter().any(|sealed| sealed.head() == kept));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ChainBreak`] names the first event that does not fit. If no event records the cut before the log's first event,
/// it names that first event.
pub fn verify_log<'a>(
    events: impl IntoIterator<Item = &'a SealedEvent>,
) -> Result<ChainHead, ChainBreak> {
    let mut check = LogCheck::default();
    for sealed in events {
        check.add(sealed)?;
    }
    check.end()
}

/// An incremental [`verify_log`], for a log that is read page by page.
#[derive(Debug, Default)]
pub struct LogCheck {
    first: Option<SealedEvent>,
    head: ChainHead,
    /// Whether the first event is known to follow the beginning of the chain, or a checkpoint.
    begins_well: bool,
}

impl LogCheck {
    /// Checks the next event against the one before.
    ///
    /// # Errors
    /// [`ChainBreak`] if the event does not follow the one before.
    pub fn add(&mut self, sealed: &SealedEvent) -> Result<(), ChainBreak> {
        match &self.first {
            None if sealed.number <= 1 => {
                self.head = verify_chain(ChainHead::default(), [sealed])?;
                self.first = Some(sealed.clone());
                self.begins_well = true;
            }
            None => {
                // A later event says which checkpoint this one follows.
                self.first = Some(sealed.clone());
                self.head = sealed.head();
            }
            Some(_) => self.head = verify_chain(self.head, [sealed])?,
        }
        if let (Some(first), Some(checkpoint)) = (&self.first, sealed.event.checkpoint()) {
            self.begins_well |= verify_chain(checkpoint, [first]).is_ok();
        }
        Ok(())
    }

    /// Ends the check, and returns the head after the last event.
    ///
    /// # Errors
    /// [`ChainBreak`] names the first event if it is not the first of the chain and no event records the cut before
    /// it.
    pub fn end(self) -> Result<ChainHead, ChainBreak> {
        match self.first {
            Some(first) if !self.begins_well => Err(ChainBreak {
                number: first.number,
            }),
            _ => Ok(self.head),
        }
    }
}

/// A break in the chain: an event was edited, removed, inserted or moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chain of events breaks at event {number}")]
pub struct ChainBreak {
    /// The number of the event at which the chain breaks.
    pub number: u64,
}

codes! {
    ChainBreak;
    Self { .. } => "broken_chain",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::EventAction;
    use crate::key::{KeyId, Principal, TenantId, Title};

    fn cut(through: ChainHead) -> Event {
        Event {
            at: time::OffsetDateTime::UNIX_EPOCH,
            tenant: None,
            actor: Principal::user("alice").unwrap(),
            action: EventAction::EventsCut,
            key: None,
            title: None,
            changes: Event::cut_fields(1, through),
            request: None,
            client: None,
        }
    }

    /// Returns the rest of ten events after a cut of the first four, with the event that records the cut, and the
    /// head.
    fn cut_chain() -> (Vec<SealedEvent>, ChainHead) {
        let (mut events, head) = chain(10);
        let through = ChainHead {
            events: 4,
            hash: events[3].hash,
        };
        let (recorded, head) = head.seal(cut(through));
        events.push(recorded);
        events.drain(..4);
        (events, head)
    }

    #[test]
    fn the_rest_of_a_cut_log_verifies() {
        let (mut events, head) = cut_chain();
        assert_eq!(verify_log(&events), Ok(head));
        let through = ChainHead {
            events: 4,
            hash: verify_chain(ChainHead::default(), &chain(4).0)
                .unwrap()
                .hash,
        };
        assert_eq!(events[6].event.checkpoint(), Some(through));
        // A second cut, which also removes the event that records the first one.
        let through = ChainHead {
            events: 11,
            hash: events[6].hash,
        };
        let (recorded, head) = head.seal(cut(through));
        assert_eq!(verify_log([&recorded]), Ok(head));
        // A complete copy that was kept elsewhere verifies as well.
        events.push(recorded);
        events.splice(0..0, chain(4).0);
        assert_eq!(verify_log(&events), Ok(head));
        assert_eq!(verify_log([]), Ok(ChainHead::default()));
    }

    #[test]
    fn a_cut_that_is_not_recorded_shows() {
        let breaks = |events: &[SealedEvent]| verify_log(events).map_err(|broken| broken.number);
        let (events, _) = cut_chain();
        assert_eq!(breaks(&events[1..]), Err(6), "one more than was recorded");
        assert_eq!(breaks(&events[..6]), Err(5), "no event records it");
        assert_eq!(
            breaks(&events[6..]),
            Err(11),
            "nothing but the record is left"
        );
        let mut gap = events.clone();
        gap.remove(2);
        assert_eq!(breaks(&gap), Err(7));
        let (whole, _) = chain(10);
        assert_eq!(breaks(&whole[1..]), Err(2), "nothing was ever cut");
    }

    #[test]
    fn a_forged_checkpoint_shows() {
        let (mut events, _) = cut_chain();
        let (whole, end) = chain(10);
        // Checkpoints to forge at the end of a log that was shortened by five events, each with its fault.
        let hash = whole[4].hash;
        let mut other = hash;
        other[31] ^= 1;
        let (six, five) = (6, 5);
        for (through, says) in [
            (
                ChainHead {
                    events: five,
                    hash: other,
                },
                "another hash",
            ),
            (ChainHead { events: six, hash }, "another number"),
            (ChainHead::default(), "the beginning"),
        ] {
            let (forged, _) = end.seal(cut(through));
            let mut shortened = whole[5..].to_vec();
            shortened.push(forged);
            assert_eq!(
                verify_log(&shortened),
                Err(ChainBreak { number: 6 }),
                "{says}"
            );
        }
        // The record of a cut is in the chain itself.
        let through = ChainHead { events: five, hash };
        events[6].event = cut(through);
        assert_eq!(verify_log(&events[1..]), Err(ChainBreak { number: 11 }));
        // An event of another kind is no checkpoint, even with the same fields.
        let mut told = cut(through);
        told.action = EventAction::KeyUpdated;
        assert_eq!(told.checkpoint(), None);
        for (place, text) in [(1, "-1"), (1, ""), (2, ""), (2, "00"), (2, "zz")] {
            let mut malformed = cut(through);
            malformed.changes[place].to = Some(text.to_owned());
            assert_eq!(malformed.checkpoint(), None, "{text}");
        }
    }

    fn chain(length: u128) -> (Vec<SealedEvent>, ChainHead) {
        let mut head = ChainHead::default();
        let mut events = Vec::new();
        for n in 0..length {
            let event = Event {
                at: time::OffsetDateTime::UNIX_EPOCH,
                tenant: Some(TenantId::new("t").unwrap()),
                actor: Principal::user("alice").unwrap(),
                action: EventAction::KeyIssued,
                key: Some(KeyId::from_u128(n)),
                title: Some(Title::new("title").unwrap()),
                changes: Vec::new(),
                request: Some("line\nbreak".into()),
                client: None,
            };
            let (sealed, next) = head.seal(event);
            events.push(sealed);
            head = next;
        }
        (events, head)
    }

    #[test]
    fn tampering_with_events_shows() {
        let start = ChainHead::default();
        let (events, head) = chain(5);
        assert_eq!(verify_chain(start, &events), Ok(head));

        let mut edited = events.clone();
        edited[2].event.actor = Principal::user("mallory").unwrap();
        assert_eq!(verify_chain(start, &edited), Err(ChainBreak { number: 3 }));
        let mut removed = events.clone();
        removed.remove(1);
        assert_eq!(verify_chain(start, &removed), Err(ChainBreak { number: 2 }));
        let mut moved = events.clone();
        moved.swap(3, 4);
        assert_eq!(verify_chain(start, &moved), Err(ChainBreak { number: 4 }));
        let mut inserted = events.clone();
        inserted.insert(0, events[0].clone());
        assert_eq!(
            verify_chain(start, &inserted),
            Err(ChainBreak { number: 2 })
        );

        let cut = verify_chain(start, &events[..4]).unwrap();
        assert_ne!(cut, head, "a cut tail shows against a head kept elsewhere");
    }

    #[test]
    fn an_event_is_one_line() {
        let (events, _) = chain(1);
        let line = events[0].event.to_line();
        assert!(
            line.contains("line\\nbreak") && !line.contains('\n'),
            "{line}"
        );
    }
}
