//! One-line set-up for unit tests of applications.

use std::fmt;

use crate::key::{
    Access, ApiKey, KeyFormat, KeyId, KeyRecord, PresentedKey, RevokeReason, Scope,
    ScopeDeclaration, TenantId,
};
use crate::manager::{Actor, AllowAll, Issued, NewKey};
use crate::store::{KeyStore, MemoryStore};
use crate::{Builder, Keyward};

/// Creates a Keyward in memory that declares the application's scopes, and a key of it with this access.
///
/// Pass the declarations that the application itself passes to [`Builder::scopes`]: an application that
/// [prepares](crate::verifier::Verifier::prepare) its requirements starts only if all their scopes are declared,
/// whatever the key holds.
///
/// ```
/// use keyward::{key::{Scope, ScopeDeclaration}, scope, testkit, verifier::{Attempt, Requirement}};
///
/// const READ_EDITIONS: Scope = scope!("read:editions");
/// const WRITE_EDITIONS: Scope = scope!("write:editions");
///
/// // Of the application, which opens its own Keyward with them.
/// fn scopes() -> [ScopeDeclaration; 2] {
///     [READ_EDITIONS.described("Read editions"), WRITE_EDITIONS.described("Write editions")]
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (keyward, key) = testkit::keyward_with_key(scopes(), READ_EDITIONS).await;
/// let [read, write] = [READ_EDITIONS, WRITE_EDITIONS].map(|scope| {
///     keyward.verifier().prepare(Requirement::scope(scope)).expect("a declared scope") // as the application does
/// });
///
/// let authorization = key.bearer(); // into a request's header
/// assert!(keyward.verifier().verify(&Attempt::new(key.presented(), &read)).await.is_ok());
/// assert!(keyward.verifier().verify(&Attempt::new(key.presented(), &write)).await.is_err());
/// key.revoke(&keyward).await;
/// assert!(keyward.verifier().verify(&Attempt::new(key.presented(), &read)).await.is_err());
/// # assert!(authorization.starts_with("Bearer acme_test_"));
/// # }
/// ```
///
/// # Panics
/// If any step fails, since it is for tests: for instance, if a scope of the access is not declared.
pub async fn keyward_with_key(
    scopes: impl IntoIterator<Item = ScopeDeclaration>,
    access: impl Into<Access>,
) -> (Keyward, TestKey) {
    let builder = builder(MemoryStore::new(), []).scopes(scopes);
    let keyward = must(builder.open().await);
    let key = TestKey::issue(&keyward, access).await;
    (keyward, key)
}

/// Creates a builder for tests over this store.
///
/// It accepts keys such as `acme_test_…`, declares these scopes without implications, and allows every actor to manage
/// keys. [`Builder::scopes`] adds the declarations of an application.
///
/// # Panics
/// If the catalog rejects the description of a scope.
pub fn builder(store: impl KeyStore, scopes: impl IntoIterator<Item = Scope>) -> Builder {
    let format = KeyFormat::new("acme").and_then(|prefix| prefix.environment("test"));
    let scopes = scopes.into_iter();
    Keyward::builder(store)
        .format(must(format))
        .scopes(scopes.map(|scope| scope.described("For tests")))
        .policy(AllowAll)
}

/// A key that a test holds in the role of the client.
pub struct TestKey(Issued);

impl TestKey {
    /// Issues a key with this access, to the tenant `acme-inc`.
    ///
    /// # Panics
    /// If that fails: for instance, if a scope is not declared.
    pub async fn issue(keyward: &Keyward, access: impl Into<Access>) -> Self {
        let tenant = must(TenantId::new("acme-inc"));
        Self::issue_as(keyward, NewKey::new(tenant, "a key for tests", access)).await
    }

    /// Issues this key.
    ///
    /// # Panics
    /// If that fails.
    pub async fn issue_as(keyward: &Keyward, key: NewKey) -> Self {
        Self(must(keyward.manager().issue(&actor(), key).await))
    }

    /// Returns the value of an `Authorization` header with the key: `Bearer acme_test_…`.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.text())
    }

    /// Returns the key's text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.api_key().expose()
    }

    /// Returns the values of the two headers of the key: the id and the secret.
    #[must_use]
    pub fn pair(&self) -> (String, &str) {
        (self.id().to_string(), self.api_key().expose_secret())
    }

    /// Returns the key as a client presents it.
    #[must_use]
    pub fn presented(&self) -> PresentedKey<'_> {
        self.api_key().presented()
    }

    /// Returns the key itself.
    #[must_use]
    pub fn api_key(&self) -> &ApiKey {
        self.0.api_key()
    }

    /// Returns the key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.api_key().id()
    }

    /// Returns the key's record, as it was when the key was issued.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        self.0.record()
    }

    /// Revokes the key.
    ///
    /// # Panics
    /// If that fails: for instance, if the key is revoked already.
    pub async fn revoke(&self, keyward: &Keyward) {
        let (tenant, reason) = (self.record().tenant(), RevokeReason::Requested);
        let actor = actor();
        let revoked = keyward.manager().revoke(&actor, tenant, self.id(), reason);
        must(revoked.await);
    }
}

impl fmt::Debug for TestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestKey({:?})", self.api_key())
    }
}

fn actor() -> Actor {
    Actor::system("testkit")
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
#[track_caller]
pub(super) fn must<T, E: fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the testkit's set-up failed: {error}"),
    }
}
