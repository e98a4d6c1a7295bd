//! A built-in integration: it reads a partner's rollups and owns the key that it uses.

use std::error::Error;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use keyward::Keyward;
use keyward::key::{Access, KeyStatus, Metadata, TenantId};
use keyward::manager::{Actor, Ceiling, KeyQuery, Limits, NewKey, Overlap};
use keyward::time::OffsetDateTime;
use serde_json::{Map, json};
use tower::ServiceExt as _;

use crate::data::NORTHWIND;

/// Issues the digest's key, which no person does, and reads the data that the digest would send.
///
/// The store does not contain the key's text, so each start issues a successor.
pub(crate) async fn run(keyward: &Keyward, app: Router) -> Result<(), Box<dyn Error>> {
    let tenant = TenantId::new(NORTHWIND)?;
    let ceiling = Ceiling::Limited(Limits::new(Access::Full));
    let digest = Actor::integration("weekly-digest", tenant.clone(), ceiling)?;
    let manager = keyward.manager();
    let own = KeyQuery::of(&tenant).owner(digest.principal());
    let own = manager.list(&digest, &own.live_first()).await?;
    let issued = match own.keys.first() {
        Some(last) if last.status(OffsetDateTime::now_utc()) == KeyStatus::Active => {
            let id = last.id();
            manager.rotate(&digest, &tenant, id, Overlap::None).await?
        }
        // An administrator has revoked or suspended it, and that must hold.
        Some(_) => return Ok(()),
        None => {
            // One key serves several integrations. Its owner is the first of them.
            let mut serves = Map::new();
            serves.insert(
                "serves".to_owned(),
                json!(["weekly-digest", "board-report"]),
            );
            let new = NewKey::new(tenant, "Weekly digest", Access::Full);
            manager
                .issue(&digest, new.metadata(Metadata::new(serves)?))
                .await?
        }
    };
    let request = Request::get("/v1/rollups/counts").header("x-api-key", issued.api_key().expose());
    let response = app.oneshot(request.body(Body::empty())?).await?;
    if !response.status().is_success() {
        return Err(format!("the digest was answered {}", response.status()).into());
    }
    Ok(())
}
