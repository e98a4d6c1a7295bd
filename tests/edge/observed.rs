//! From a refusal in the operator's log to the customer, and nothing of that to the caller.

use std::sync::{Arc, Mutex};

use keyward::Keyward;
use keyward::http::{Answer, Edge, Head, KeyIn, Rejection};
use keyward::key::{KeyId, KeyRecord, Principal, TenantId};
use keyward::manager::{Actor, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::{TestKey, builder};
use keyward::verifier::Requirement;
use keyward::{key::Scope, scope};

use crate::common::{READ, over_tls};

const WRITE: Scope = scope!("write:editions");

/// What an observer got of a key: the proven record; else the claimed id, with the record if it was read.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Nothing,
    Key(KeyRecord),
    Claim(KeyId, Option<KeyRecord>),
}

/// An edge with an observer, and a customer's key.
struct Shop {
    keyward: Keyward,
    key: TestKey,
    edge: Edge,
    seen: Arc<Mutex<Vec<Seen>>>,
}

fn customer() -> TenantId {
    TenantId::new("customer-42").unwrap()
}

impl Shop {
    async fn new() -> Self {
        let keyward = builder(MemoryStore::new(), [READ, WRITE]);
        let keyward = keyward.open().await.unwrap();
        let key = NewKey::new(customer(), "Quarterly figures", READ)
            .owner(Principal::user("erika").unwrap());
        let key = TestKey::issue_as(&keyward, key).await;
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let into = Arc::clone(&seen);
        let edge = Edge::new(&keyward)
            .accept(KeyIn::bearer())
            .require_tls()
            .observe(move |event| {
                let seen = match (event.key(), event.claimed_key()) {
                    (None, None) => Seen::Nothing,
                    (Some(key), None) => Seen::Key(key.clone()),
                    (None, Some(claimed)) => Seen::Claim(claimed.id, claimed.record.cloned()),
                    (Some(_), Some(_)) => panic!("a proven key is no claim"),
                };
                into.lock().unwrap().push(seen);
            });
        Self {
            keyward,
            key,
            edge,
            seen,
        }
    }

    /// Asks with this text, and returns the rejection and the observer's view of it.
    async fn refused(&self, text: &str, need: &Requirement) -> (Box<Rejection>, Seen) {
        self.refused_over(text, need, true).await
    }

    async fn refused_over(
        &self,
        text: &str,
        need: &Requirement,
        is_tls: bool,
    ) -> (Box<Rejection>, Seen) {
        let headers = [("authorization", format!("Bearer {text}"))];
        let mut connection = over_tls();
        connection.is_tls = is_tls;
        let head = Head {
            headers: headers.as_slice(),
            connection,
            query: None,
        };
        let attempt = keyward::verifier::Attempt::of(need);
        let rejection = self.edge.admit(&head, attempt).await.unwrap_err();
        let mut seen = self.seen.lock().unwrap();
        let only = seen.pop().unwrap();
        assert!(seen.is_empty());
        (rejection, only)
    }

    /// Returns the key's text with another secret, and the right checksum.
    fn wrong_text(&self) -> String {
        use keyward::key::{Environment, Secret};
        let test = Environment::new("test").unwrap();
        let secret = Secret::new("w".repeat(43)).unwrap();
        let wrong = self
            .keyward
            .format()
            .compose(&test, self.key.id(), &secret)
            .unwrap();
        wrong.expose().to_owned()
    }
}

fn is_the_customers(seen: &Seen, key: &TestKey) {
    let Seen::Key(record) = seen else {
        panic!("{seen:?}");
    };
    assert_eq!(record.id(), key.id());
    assert_eq!(record.tenant(), &customer());
    assert_eq!(record.owner().to_string(), "user:erika");
    assert_eq!(record.title().as_str(), "Quarterly figures");
    assert_eq!(record.display_prefix(), key.record().display_prefix());
}

#[tokio::test]
async fn a_proven_keys_customer_is_named() {
    let shop = Shop::new().await;
    let (read, write) = (Requirement::scope(READ), Requirement::scope(WRITE));
    // From the store, then from memory.
    for status in [403, 403] {
        let (rejection, seen) = shop.refused(shop.key.text(), &write).await;
        assert_eq!(rejection.answer.status, status);
        is_the_customers(&seen, &shop.key);
    }
    let (manager, actor) = (shop.keyward.manager(), Actor::system("test"));
    let (tenant, id) = (customer(), shop.key.id());
    manager.suspend(&actor, &tenant, id).await.unwrap();
    for status in [401, 401] {
        let (rejection, seen) = shop.refused(shop.key.text(), &read).await;
        assert_eq!(rejection.answer.status, status);
        is_the_customers(&seen, &shop.key);
    }
    shop.key.revoke(&shop.keyward).await;
    let (_, seen) = shop.refused(shop.key.text(), &read).await;
    is_the_customers(&seen, &shop.key);
}

#[tokio::test]
async fn an_unproven_key_is_only_claimed() {
    let shop = Shop::new().await;
    let need = Requirement::scope(READ);
    let wrong = shop.wrong_text();
    let claimed_record = |seen: Seen| match seen {
        Seen::Claim(id, Some(record)) => {
            assert_eq!((id, record.id()), (shop.key.id(), shop.key.id()));
            assert_eq!(record.tenant(), &customer());
        }
        other => panic!("{other:?}"),
    };
    // Before any proof, and with a proof in memory, which refutes the secret at once.
    claimed_record(shop.refused(&wrong, &need).await.1);
    let write = Requirement::scope(WRITE);
    shop.refused(shop.key.text(), &write).await;
    claimed_record(shop.refused(&wrong, &need).await.1);

    // There is no record of a key that does not exist, and none was read without TLS.
    let elsewhere = Shop::new().await;
    let (_, seen) = shop.refused(elsewhere.key.text(), &need).await;
    assert_eq!(seen, Seen::Claim(elsewhere.key.id(), None));
    let (_, seen) = shop.refused_over(shop.key.text(), &need, false).await;
    assert_eq!(seen, Seen::Claim(shop.key.id(), None));
    let (_, seen) = shop.refused("hello", &need).await;
    assert_eq!(seen, Seen::Nothing);
}

#[tokio::test]
async fn answers_name_no_customer() {
    let shop = Shop::new().await;
    let record = shop.key.record();
    let names = [
        "customer-42".to_owned(),
        "Quarterly".to_owned(),
        "erika".to_owned(),
        record.id().to_string(),
        record.display_prefix(),
    ];
    let (read, write) = (Requirement::scope(READ), Requirement::scope(WRITE));
    let wrong = shop.wrong_text();
    for (text, need, is_tls) in [
        (shop.key.text(), &write, true),
        (&wrong, &read, true),
        (shop.key.text(), &read, false),
    ] {
        let (rejection, seen) = shop.refused_over(text, need, is_tls).await;
        assert_ne!(seen, Seen::Nothing);
        let Answer { headers, body, .. } = &rejection.answer;
        let mut answer = format!("{headers:?}{}", String::from_utf8_lossy(body));
        if let keyward::http::RejectionReason::Denied(denial) = &rejection.reason {
            answer += &denial.to_string();
        }
        for name in &names {
            assert!(!answer.contains(name), "{name}: {answer}");
        }
    }
}
