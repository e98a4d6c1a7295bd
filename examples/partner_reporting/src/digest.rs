//! An integration that is built in: it reads the rollups of a partner, and owns the key that it does so with.

use std::error::Error;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use keyward::Keyward;
use keyward::key::{Access, Metadata};
use keyward::manager::{Actor, Ceiling, Limits, NewKey};
use serde_json::{Map, json};
use tower::ServiceExt as _;

use crate::office::Partner;

/// Issues the digest's key, which no person does, and reads what it would send.
pub(crate) async fn run(keyward: &Keyward, app: Router) -> Result<(), Box<dyn Error>> {
    let tenant = Partner::Northwind.tenant()?;
    let ceiling = Ceiling::Limited(Limits::new(Access::Full));
    let digest = Actor::integration("weekly-digest", tenant.clone(), ceiling)?;
    // One key serves several integrations; its owner is the one that was there first.
    let mut serves = Map::new();
    serves.insert(
        "serves".to_owned(),
        json!(["weekly-digest", "board-report"]),
    );
    let new = NewKey::new(tenant, "Weekly digest", Access::Full).metadata(Metadata::new(serves)?);
    let issued = keyward.manager().issue(&digest, new).await?;
    let request = Request::get("/v1/rollups/counts").header("x-api-key", issued.api_key().expose());
    let response = app.oneshot(request.body(Body::empty())?).await?;
    if !response.status().is_success() {
        return Err(format!("the digest was answered {}", response.status()).into());
    }
    Ok(())
}
