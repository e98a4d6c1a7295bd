//! A credential for every reason that is answered by 401, derived from the reasons: a new one has no case, and fails.

use std::time::Duration;

use keyward::Keyward;
use keyward::clock::Clock as _;
use keyward::key::{ApiKey, KeyFormat, KeyId, Network, Secret, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey, Overlap};
use keyward::store::MemoryStore;
use keyward::testkit::{ManualClock, TestKey, builder, every_denial, keyward_with_key};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};

use crate::READ;

const HOUR: Duration = Duration::from_hours(1);

/// A credential that is refused.
pub(crate) struct Refused {
    /// The start of the reason that the operator sees.
    pub(crate) why: String,
    pub(crate) text: String,
    /// The `Forwarded` header of a trusted proxy. Without one the client's address is unknown.
    pub(crate) forwarded: Option<&'static str>,
}

/// A Keyward, and keys of it that are refused.
pub(crate) struct Fixture {
    pub(crate) keyward: Keyward,
    store: MemoryStore,
    clock: ManualClock,
}

impl Fixture {
    pub(crate) async fn open() -> Self {
        let (store, clock) = (
            MemoryStore::new(),
            ManualClock::new(OffsetDateTime::now_utc()),
        );
        let keyward = builder(store.clone(), [READ]).clock(clock.clone());
        Self {
            keyward: keyward.open().await.unwrap(),
            store,
            clock,
        }
    }

    /// At least one credential for each reason that a server can have.
    pub(crate) async fn refused(&self) -> Vec<Refused> {
        let mut refused = Vec::new();
        for denial in every_denial() {
            let reason = denial.reason();
            if reason.class() != DenialClass::Unauthenticated {
                continue;
            }
            let why = match reason {
                // There are many reasons of this kind.
                DenialReason::Malformed(_) => String::new(),
                DenialReason::Revoked { .. } => "the key was revoked at ".to_owned(),
                _ => reason.to_string(),
            };
            let forwarded = match reason {
                DenialReason::OutsideNetworks => Some("for=203.0.113.9"),
                _ => None,
            };
            let texts = self.texts(reason).await;
            refused.extend(texts.into_iter().map(|text| Refused {
                why: why.clone(),
                text,
                forwarded,
            }));
        }
        refused
    }

    async fn texts(&self, reason: &DenialReason) -> Vec<String> {
        let network: Network = "198.51.100.0/24".parse().unwrap();
        let (manager, actor, tenant) = (self.keyward.manager(), Actor::system("tests"), tenant());
        match reason {
            // The other 401.
            DenialReason::NoCredential => Vec::new(),
            // Adapters decide anew on a request that another Keyward admitted.
            DenialReason::OtherKeyward => Vec::new(),
            // Adapters address no tenant.
            DenialReason::OtherTenant => Vec::new(),
            // It depends on when, and has a test of its own.
            DenialReason::Ended => Vec::new(),
            DenialReason::Malformed(_) => {
                let key = self.issue(|new| new).await;
                vec![
                    "Zm9vOmJhcg==".to_owned(),
                    String::new(),
                    key.text()[..key.text().len() - 1].to_owned(),
                    key.text().replace("_test_", "_live_"),
                    "a".repeat(1_000),
                ]
            }
            DenialReason::UnknownKey => vec![
                keyward_with_key([READ.described("For tests")], READ)
                    .await
                    .1
                    .text()
                    .to_owned(),
            ],
            DenialReason::WrongSecret => {
                let key = self.used(|new| new).await;
                vec![self.composed(key.id(), &"x".repeat(43))]
            }
            DenialReason::OtherEnvironment => vec![self.text_from_elsewhere("acme", "live").await],
            DenialReason::OtherFormat => vec![self.text_from_elsewhere("other", "test").await],
            DenialReason::Revoked { .. } => {
                let project = "project:p-1".parse::<keyward::key::Resource>().unwrap();
                let keys = [
                    self.used(|new| new).await,
                    self.issue(|new| new).await,
                    self.used(|new| new.resources(project)).await,
                ];
                for key in &keys {
                    key.revoke(&self.keyward).await;
                }
                keys.iter().map(|key| key.text().to_owned()).collect()
            }
            DenialReason::CutOff => {
                let key = self.used(|new| new).await;
                let other = self.issue(|new| new).await;
                self.clock.advance(HOUR);
                let now = self.clock.now().unwrap();
                let cut = manager.deny_issued_before(&actor, now, &tenant);
                cut.await.unwrap();
                vec![key.text().to_owned(), other.text().to_owned()]
            }
            DenialReason::Superseded => {
                let key = self.used(|new| new).await;
                let rotated = manager.rotate(&actor, &tenant, key.id(), Overlap::For(HOUR));
                rotated.await.unwrap();
                self.clock.advance(HOUR);
                vec![key.text().to_owned()]
            }
            DenialReason::Suspended => {
                let key = self.used(|new| new).await;
                let suspended = manager.suspend(&actor, &tenant, key.id());
                suspended.await.unwrap();
                vec![key.text().to_owned()]
            }
            DenialReason::NotYetValid => {
                let begins = self.clock.now().unwrap() + 1_000 * HOUR;
                vec![
                    self.issue(|new| new.not_before(begins))
                        .await
                        .text()
                        .to_owned(),
                ]
            }
            DenialReason::Expired => {
                let key = self.used(|new| new.expires_in(HOUR)).await;
                self.clock.advance(HOUR);
                vec![key.text().to_owned()]
            }
            DenialReason::OutsideNetworks | DenialReason::AddressUnknown => {
                vec![
                    self.issue(|new| new.networks(network))
                        .await
                        .text()
                        .to_owned(),
                ]
            }
            other => panic!("there is no credential that is refused because {other}"),
        }
    }

    pub(crate) async fn issue(&self, with: impl FnOnce(NewKey) -> NewKey) -> TestKey {
        let new = with(NewKey::new(tenant(), "refused", READ));
        TestKey::issue_as(&self.keyward, new).await
    }

    /// A key that was granted once.
    async fn used(&self, with: impl FnOnce(NewKey) -> NewKey) -> TestKey {
        let key = self.issue(with).await;
        let filters = Requirement::any_key().filters("project");
        let attempt = Attempt::new(key.presented(), &filters);
        self.keyward.verifier().verify(&attempt).await.unwrap();
        key
    }

    /// A key that was issued on the same store in another format, written in this one.
    async fn text_from_elsewhere(&self, prefix: &str, environment: &str) -> String {
        let format = KeyFormat::new(prefix).unwrap();
        let other = Keyward::builder(self.store.clone())
            .format(format.environment(environment).unwrap())
            .scopes([READ.described("Read")])
            .policy(AllowAll);
        let key = TestKey::issue(&other.open().await.unwrap(), [READ]).await;
        self.composed(key.id(), key.api_key().expose_secret())
    }

    fn composed(&self, id: KeyId, secret: &str) -> String {
        let format = self.keyward.format();
        let environment = format.environments().next().unwrap();
        let secret = Secret::new(secret).unwrap();
        let key: ApiKey = format.compose(environment, id, &secret).unwrap();
        key.expose().to_owned()
    }
}

/// Whose keys they are. A key that is to be good is another tenant's: the cutoff binds these.
fn tenant() -> TenantId {
    TenantId::new("refused-inc").unwrap()
}
