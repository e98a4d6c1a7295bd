//! What is wrong with a library, so that the test can be seen to catch it.
//!
//! Each is made of the real one: it is asked by an actor without a ceiling, or for something weaker, or what it has
//! done is changed in the store.

use keyward::key::{KeyRecord, RevokeReason};
use keyward::manager::{Actor, InvalidKey, ManageError};
use serde_json::Value;

use super::asked::{Asked, How, Library, Until, updated};
use super::{Held, Wrong};
use crate::common::now;
use crate::t21_powers::Powers;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    IssueForgetsTheCeiling,
    IssueMakesTwo,
    UpdateSeesOnlyWhatIsToBe,
    UpdateSeesOnlyWhatIs,
    UpdateSeesOnlyTheFieldsNamed,
    UpdateForgetsTheExpiryAxis,
    UpdateRevives,
    UpdateLengthensTheOverlap,
    UpdateChangesAnotherKeyToo,
    RotateSeesOnlyTheSuccessor,
    RotateSeesOnlyWhatIs,
    RotateForgetsTheExpiryAxis,
    RotateRevives,
    RotateForgetsToInheritTheExpiry,
    RotateForgetsToInheritTheStart,
    RotateLengthensTheOldKeysLife,
    RotateLeavesTheOldKey,
    RotateForgetsThatItWasDone,
    SuspendAsksTheCeiling,
    ResumeForgetsTheCeiling,
    ImportForgetsTheCeiling,
    ImportOverwrites,
    RefusesButDoes,
}

impl Bug {
    /// All of them, and as what each is caught.
    pub(super) const ALL: [(Self, Wrong); 23] = [
        (Self::IssueForgetsTheCeiling, Wrong::IsAbove),
        (Self::IssueMakesTwo, Wrong::OtherKeys),
        (Self::UpdateSeesOnlyWhatIsToBe, Wrong::WasAbove),
        (Self::UpdateSeesOnlyWhatIs, Wrong::IsAbove),
        (Self::UpdateSeesOnlyTheFieldsNamed, Wrong::WasAbove),
        (Self::UpdateForgetsTheExpiryAxis, Wrong::IsAbove),
        (Self::UpdateRevives, Wrong::Revived),
        (Self::UpdateLengthensTheOverlap, Wrong::OverlapLengthened),
        (Self::UpdateChangesAnotherKeyToo, Wrong::Grown),
        (Self::RotateSeesOnlyTheSuccessor, Wrong::WasAbove),
        (Self::RotateSeesOnlyWhatIs, Wrong::IsAbove),
        (Self::RotateForgetsTheExpiryAxis, Wrong::IsAbove),
        (Self::RotateRevives, Wrong::Revived),
        (Self::RotateForgetsToInheritTheExpiry, Wrong::LivesLonger),
        (Self::RotateForgetsToInheritTheStart, Wrong::StartsEarlier),
        (Self::RotateLengthensTheOldKeysLife, Wrong::OldLivesLonger),
        (Self::RotateLeavesTheOldKey, Wrong::NotAsAsked),
        (Self::RotateForgetsThatItWasDone, Wrong::RotatedTwice),
        (Self::SuspendAsksTheCeiling, Wrong::RefusedForNothing),
        (Self::ResumeForgetsTheCeiling, Wrong::WasAbove),
        (Self::ImportForgetsTheCeiling, Wrong::IsAbove),
        (Self::ImportOverwrites, Wrong::Overwritten),
        (Self::RefusesButDoes, Wrong::RefusedButDone),
    ];
}

type Answer = Result<Option<KeyRecord>, ManageError>;

impl Library<'_> {
    /// Asks the library as it is, or with its bug.
    pub(super) fn ask_with_bug(
        &self,
        actor: &Actor,
        ceiling: &Powers,
        keys: &[Held],
        asked: &Asked,
    ) -> Answer {
        let Some((bug, _)) = self.bug else {
            return self.ask(actor, asked);
        };
        let was = keys.iter().find(|held| Some(held.id) == asked.key());
        let intended = asked.intended(was, self.second());
        let as_root = || self.ask(&self.root, asked);
        match (bug, asked) {
            (Bug::IssueForgetsTheCeiling, Asked::Issue(_))
            | (Bug::ResumeForgetsTheCeiling, Asked::Resume(_))
            | (Bug::ImportForgetsTheCeiling, Asked::Import(..)) => as_root(),
            (Bug::IssueMakesTwo, Asked::Issue(_)) => {
                self.ask(actor, asked)?;
                self.ask(actor, asked)
            }
            (Bug::UpdateSeesOnlyWhatIsToBe, Asked::Update(..))
            | (Bug::RotateSeesOnlyTheSuccessor, Asked::Rotate(..)) => {
                self.judge(actor, &intended.unwrap())?;
                as_root()
            }
            (Bug::UpdateSeesOnlyWhatIs, Asked::Update(..))
            | (Bug::RotateSeesOnlyWhatIs, Asked::Rotate(..)) => {
                self.judge(actor, &was.unwrap().powers)?;
                as_root()
            }
            (Bug::UpdateSeesOnlyTheFieldsNamed, Asked::Update(_, fields, to)) => {
                self.judge(actor, &updated(*ceiling, *fields, to))?;
                as_root()
            }
            (Bug::UpdateForgetsTheExpiryAxis, Asked::Update(..)) => {
                let blind = Powers {
                    expires_after: None,
                    ..*ceiling
                };
                let blind = blind.ceiling(self.start);
                let actor = Actor::user("blind", self.tenant.clone(), blind).unwrap();
                self.ask(&actor, asked)
            }
            (Bug::UpdateRevives, Asked::Update(id, [.., true], _)) => {
                match self.ask(actor, asked) {
                    Err(ManageError::Ended(_)) => {
                        let record = now(self.manager().get(&self.root, &self.tenant, *id))?;
                        Ok(Some(record))
                    }
                    answer => answer,
                }
            }
            (Bug::UpdateLengthensTheOverlap, Asked::Update(id, fields, to)) => {
                match self.ask(actor, asked) {
                    Err(ManageError::Invalid(InvalidKey::BeyondOverlap { .. })) => {
                        let field = "rotation/overlap_ends";
                        now(self.fixture.tamper_document(*id, field, Value::Null));
                        self.ask(actor, &Asked::Update(*id, *fields, *to))
                    }
                    answer => answer,
                }
            }
            (Bug::UpdateChangesAnotherKeyToo, Asked::Update(..)) => {
                let answer = self.ask(actor, asked)?;
                let mut others = keys.iter().filter(|held| Some(held.id) != asked.key());
                if let Some(other) = others.find(|held| !held.has_ended(self.second())) {
                    let all = [true; 6];
                    self.ask(
                        &self.root,
                        &Asked::Update(other.id, all, Powers::unlimited()),
                    )?;
                }
                Ok(answer)
            }
            (Bug::RotateForgetsTheExpiryAxis, Asked::Rotate(..)) => {
                let blind = Powers {
                    expires_after: None,
                    ..*ceiling
                };
                let blind = blind.ceiling(self.start);
                let actor = Actor::user("blind", self.tenant.clone(), blind).unwrap();
                self.ask(&actor, asked)
            }
            (Bug::RotateRevives, Asked::Rotate(id, ..)) if was.unwrap().is_suspended => {
                now(self.manager().resume(actor, &self.tenant, *id))?;
                self.ask(actor, asked)
            }
            (Bug::RotateForgetsToInheritTheExpiry, Asked::Rotate(id, how, Until::AsBefore)) => {
                self.judge(actor, &was.unwrap().powers)?;
                let all = Powers {
                    expires_after: None,
                    ..*ceiling
                }
                .ceiling(self.start);
                let actor = Actor::user("blind", self.tenant.clone(), all).unwrap();
                self.ask(&actor, &Asked::Rotate(*id, *how, Until::Never))
            }
            (Bug::RotateForgetsToInheritTheStart, Asked::Rotate(..)) => {
                let record = self.ask(actor, asked)?.unwrap();
                now(self.fixture.tamper_document(
                    record.id(),
                    "restrictions/not_before",
                    Value::Null,
                ));
                Ok(Some(record))
            }
            (Bug::RotateLengthensTheOldKeysLife, Asked::Rotate(id, how, _))
                if *how != How::None =>
            {
                let answer = self.ask(actor, asked)?;
                now(self.fixture.tamper(*id, |stored| stored.expires_at = None));
                now(self
                    .fixture
                    .tamper_document(*id, "restrictions/expires_at", Value::Null));
                Ok(answer)
            }
            (Bug::RotateLeavesTheOldKey, Asked::Rotate(id, How::None, until)) => {
                self.ask(actor, &Asked::Rotate(*id, How::UntilRevoked, *until))
            }
            (Bug::RotateForgetsThatItWasDone, Asked::Rotate(id, ..)) => {
                let was = was.unwrap();
                self.judge(actor, &was.powers)?;
                if was.successor.is_some() && !was.has_ended(self.second()) {
                    let forget = self.fixture.tamper_document(*id, "rotation", Value::Null);
                    now(forget);
                }
                self.ask(actor, asked)
            }
            (Bug::SuspendAsksTheCeiling, Asked::Suspend(_)) => {
                self.judge(actor, &was.unwrap().powers)?;
                self.ask(actor, asked)
            }
            (Bug::ImportOverwrites, Asked::Import(powers, _)) => match self.ask(actor, asked) {
                Err(ManageError::AlreadyImported { id } | ManageError::IdTaken { id }) => {
                    self.ask(&self.root, &Asked::Update(id, [true; 6], *powers))
                }
                answer => answer,
            },
            (Bug::RefusesButDoes, _) => {
                let answer = self.ask(actor, asked);
                if let (Err(ManageError::AboveCeiling(_)), Some(was)) = (&answer, was) {
                    let reason = RevokeReason::Requested;
                    let revoked = self
                        .manager()
                        .revoke(&self.root, &self.tenant, was.id, reason);
                    let _ = now(revoked);
                }
                answer
            }
            _ => self.ask(actor, asked),
        }
    }

    /// Whether the actor's ceiling lets a key with these powers be, as the library itself judges one that is issued.
    fn judge(&self, actor: &Actor, powers: &Powers) -> Result<(), ManageError> {
        let (_, elsewhere) = self.bug.unwrap();
        let manager = elsewhere.keyward.manager();
        now(manager.issue(actor, self.new_key(powers))).map(drop)
    }
}
