//! The people who manage keys, and their permissions.
//!
//! This product does not use the library's endpoints (`keyward::actix::management_scope`): its form asks for a name
//! only, and a key has neither the form nor the list that these show. Its own are a few lines each.

use actix_web::error::ErrorUnprocessableEntity;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Bytes, Data, Json, Path, Query, ServiceConfig};
use actix_web::{Error, HttpResponse};
use example_support::{CodeForm, LoggedIn, LoginError, Office, Person, has_role};
use keyward::audit::SealedEvent;
use keyward::key::{Access, KeyId, RevokeReason, Title};
use keyward::manager::{
    Actor, Issued, KeyQuery, ManageError, NewKey, Operation, PageCursor, Policy, PolicyError,
    RevokeForm, Rotation, Ruling,
};
use keyward::time::OffsetDateTime;
use keyward::{Keyward, async_trait};
use serde::{Deserialize, Serialize};

use crate::listed::{Listed, Row};

/// The tenant of all keys, which belong to the product itself.
pub(crate) const TENANT: &str = "back-office";

/// The roles of people.
pub(crate) const SYSTEM_ADMINISTRATOR: &str = "system-admin";
pub(crate) const SUPPORT_AGENT: &str = "support-agent";

/// A policy under which system administrators may do everything, and all others may do nothing, not even list keys.
#[derive(Debug)]
pub(crate) struct SystemAdministrators;

#[async_trait]
impl Policy for SystemAdministrators {
    async fn rule(&self, actor: &Actor, _: &Operation<'_>) -> Result<Ruling, PolicyError> {
        Ok(if has_role(actor, SYSTEM_ADMINISTRATOR) {
            Ruling::Allow
        } else {
            Ruling::Refuse
        })
    }
}

/// The only field of the form: a name. The product sets all other properties.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueForm {
    name: String,
}

/// The page of the list that begins at another page's `next`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    after: Option<PageCursor>,
}

/// The events to read: those after a number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    #[serde(default)]
    after: u64,
}

/// Maximum number of events in one response.
const EVENTS: usize = 100;

/// A page of events.
#[derive(Serialize)]
struct Events {
    events: Vec<SealedEvent>,
}

/// A new key, shown once.
///
/// This is not [`Issued::reveal`], which also contains the key as one text: a caller that finds a second form of a
/// key tries to send it. Callers of this product send the two values, so they get these only.
#[derive(Serialize)]
struct Revealed<'a> {
    id: KeyId,
    secret: &'a str,
    name: &'a Title,
}

/// A key that was just revoked.
#[derive(Serialize)]
struct Ended {
    name: Title,
    id: KeyId,
    #[serde(with = "keyward::time::serde::rfc3339")]
    revoked_on: OffsetDateTime,
}

type Keys = Data<Keyward>;

pub(crate) fn routes(
    office: Office,
    keyward: Keyward,
) -> impl FnOnce(&mut ServiceConfig) + Clone + Send + use<> {
    let (office, keyward) = (Data::new(office), Keys::new(keyward));
    move |app: &mut ServiceConfig| {
        // The responses include sessions and secrets, so no cache may keep them.
        let no_store = DefaultHeaders::new().add((CACHE_CONTROL, "no-store"));
        let desk = web::scope("/admin")
            .app_data(office)
            .app_data(keyward)
            .service(web::resource("/login").post(log_in))
            .service(web::resource("/keys").get(list).post(issue))
            .service(web::resource("/keys/events").get(events))
            .service(web::resource("/keys/{id}/rotate").post(rotate))
            .service(web::resource("/keys/{id}/suspend").post(suspend))
            .service(web::resource("/keys/{id}/resume").post(resume))
            .service(web::resource("/keys/{id}/revoke").post(revoke));
        app.service(desk.wrap(no_store));
    }
}

async fn log_in(
    office: Data<Office>,
    Json(form): Json<CodeForm>,
) -> Result<Json<LoggedIn>, LoginError> {
    Ok(Json(office.log_in(&form)?))
}

async fn list(
    keys: Keys,
    person: Person,
    Query(page): Query<ListQuery>,
) -> Result<Json<Listed>, ManageError> {
    // A new key is at the top, and a key just revoked is at the bottom.
    let mut query = KeyQuery::of(person.tenant()).live_first();
    if let Some(cursor) = page.after {
        query = query.after(cursor)?;
    }
    let manager = keys.manager();
    let list = manager.list(person.actor(), &query).await?;
    Ok(Json(list.view(manager.now()?).into()))
}

async fn issue(
    keys: Keys,
    person: Person,
    Json(form): Json<IssueForm>,
) -> Result<HttpResponse, ManageError> {
    let new = NewKey::new(person.tenant().clone(), form.name, Access::Full);
    let issued = keys.manager().issue(person.actor(), new).await?;
    Ok(reveal(&issued))
}

async fn rotate(
    keys: Keys,
    person: Person,
    id: Path<KeyId>,
    Json(rotation): Json<Rotation>,
) -> Result<HttpResponse, ManageError> {
    let (manager, tenant) = (keys.manager(), person.tenant());
    let issued = manager
        .rotate(person.actor(), tenant, *id, rotation)
        .await?;
    Ok(reveal(&issued))
}

async fn suspend(keys: Keys, person: Person, id: Path<KeyId>) -> Result<Json<Row>, ManageError> {
    let manager = keys.manager();
    let suspended = manager
        .suspend(person.actor(), person.tenant(), *id)
        .await?;
    Ok(Json(Row::from(&suspended.view(manager.now()?))))
}

async fn resume(keys: Keys, person: Person, id: Path<KeyId>) -> Result<Json<Row>, ManageError> {
    let manager = keys.manager();
    let resumed = manager.resume(person.actor(), person.tenant(), *id).await?;
    Ok(Json(Row::from(&resumed.view(manager.now()?))))
}

async fn revoke(
    keys: Keys,
    person: Person,
    id: Path<KeyId>,
    body: Bytes,
) -> Result<Json<Ended>, Error> {
    let reason = match &body[..] {
        [] => RevokeReason::Requested,
        // A body that is not understood is refused: the log must not name another reason.
        body => match serde_json::from_slice(body) {
            Ok(RevokeForm { reason, .. }) => reason,
            Err(error) => return Err(ErrorUnprocessableEntity(error)),
        },
    };
    let (manager, tenant) = (keys.manager(), person.tenant());
    let revoked = manager.revoke(person.actor(), tenant, *id, reason).await?;
    Ok(Json(Ended {
        name: revoked.title,
        id: revoked.id,
        revoked_on: revoked.at,
    }))
}

async fn events(
    keys: Keys,
    person: Person,
    Query(query): Query<EventQuery>,
) -> Result<Json<Events>, ManageError> {
    let (manager, tenant) = (keys.manager(), person.tenant());
    let events = manager.events(person.actor(), tenant, query.after, EVENTS);
    Ok(Json(Events {
        events: events.await?,
    }))
}

fn reveal(issued: &Issued) -> HttpResponse {
    let record = issued.record();
    HttpResponse::Created().json(Revealed {
        id: record.id(),
        secret: issued.api_key().expose_secret(),
        name: record.title(),
    })
}
