//! Ties each event to the one before, so that an edited, removed or reordered one shows.
//!
//! Whoever can write the whole log can also compute the whole chain anew: it shows tampering to those who
//! kept a head outside the store.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Event;

const DOMAIN: &[u8] = b"keyward/event/v1";

/// How far the chain has come: how many events it has, and the hash of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChainHead {
    /// How many events there are.
    pub events: u64,
    /// SHA-256 of the last one; zeros before the first.
    pub hash: [u8; 32],
}

impl ChainHead {
    /// Appends an event: its place in the chain, and the head after it.
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
    /// Its number; the first event's is 1.
    pub number: u64,
    /// The event.
    pub event: Event,
    /// SHA-256 of `keyward/event/v1`, the number (8 bytes, big-endian), the hash of the event before, and
    /// the event's [line](Event::to_line).
    pub hash: [u8; 32],
}

/// Checks that these events follow the head and one another, and returns the head after them.
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

/// The chain does not hold: an event was edited, removed, inserted or moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chain of events breaks at event {number}")]
pub struct ChainBreak {
    /// The number at which it breaks.
    pub number: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::EventAction;
    use crate::key::{KeyId, Principal, TenantId, Title};

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
    fn an_edited_removed_inserted_or_moved_event_shows() {
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
