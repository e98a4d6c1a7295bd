//! The people who manage keys, and their permissions.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Data, Json, Path, Query, ServiceConfig};
use example_support::{
    CodeForm, EventQuery, ListQuery, LoggedIn, NotDone, Office, Person, RotateForm, Session,
    has_role,
};
use keyward::async_trait;
use keyward::audit::SealedEvent;
use keyward::key::{Access, KeyId, Title};
use keyward::manager::{Actor, Issued, KeyQuery, NewKey, Operation, Policy, PolicyError, Ruling};
use keyward::time::OffsetDateTime;
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

type Desk = Data<Office>;

pub(crate) fn routes(office: Office) -> impl FnOnce(&mut ServiceConfig) + Clone + Send + use<> {
    let office = Desk::new(office);
    move |app: &mut ServiceConfig| {
        // The responses include sessions and secrets, so no cache may keep them.
        let no_store = DefaultHeaders::new().add((CACHE_CONTROL, "no-store"));
        let desk = web::scope("/admin")
            .app_data(office)
            .service(web::resource("/login").post(log_in))
            .service(web::resource("/keys").get(list).post(issue))
            .service(web::resource("/keys/{id}/rotate").post(rotate))
            .service(web::resource("/keys/{id}/suspend").post(suspend))
            .service(web::resource("/keys/{id}/resume").post(resume))
            .service(web::resource("/keys/{id}/revoke").post(revoke))
            .service(web::resource("/events").get(events));
        app.service(desk.wrap(no_store));
    }
}

async fn log_in(office: Desk, Json(form): Json<CodeForm>) -> Result<Json<LoggedIn>, NotDone> {
    Ok(Json(office.log_in(&form)?))
}

async fn list(
    office: Desk,
    session: Session,
    Query(page): Query<ListQuery>,
) -> Result<Json<Listed>, NotDone> {
    // A new key is at the top, and a key just revoked is at the bottom.
    let keys = office.list(&session, &page, KeyQuery::live_first).await?;
    Ok(Json(keys.into()))
}

async fn issue(
    office: Desk,
    session: Session,
    Json(form): Json<IssueForm>,
) -> Result<HttpResponse, NotDone> {
    let new = |person: &Person| {
        Ok(NewKey::new(
            person.tenant().clone(),
            form.name,
            Access::Full,
        ))
    };
    let issued = office.issue(&session, new).await?;
    Ok(reveal(&issued))
}

async fn rotate(
    office: Desk,
    session: Session,
    id: Path<KeyId>,
    Json(form): Json<RotateForm>,
) -> Result<HttpResponse, NotDone> {
    let issued = office.rotate(&session, *id, &form).await?;
    Ok(reveal(&issued))
}

async fn suspend(office: Desk, session: Session, id: Path<KeyId>) -> Result<Json<Row>, NotDone> {
    let suspended = office.suspend(&session, *id).await?;
    Ok(Json(Row::from(&suspended)))
}

async fn resume(office: Desk, session: Session, id: Path<KeyId>) -> Result<Json<Row>, NotDone> {
    let resumed = office.resume(&session, *id).await?;
    Ok(Json(Row::from(&resumed)))
}

async fn revoke(
    office: Desk,
    session: Session,
    id: Path<KeyId>,
    body: web::Bytes,
) -> Result<Json<Ended>, NotDone> {
    let revoked = office.revoke(&session, *id, &body).await?;
    Ok(Json(Ended {
        name: revoked.title,
        id: revoked.id,
        revoked_on: revoked.at,
    }))
}

async fn events(
    office: Desk,
    session: Session,
    Query(query): Query<EventQuery>,
) -> Result<Json<Vec<SealedEvent>>, NotDone> {
    Ok(Json(office.events(&session, &query).await?))
}

fn reveal(issued: &Issued) -> HttpResponse {
    let record = issued.record();
    HttpResponse::Created().json(Revealed {
        id: record.id(),
        secret: issued.api_key().expose_secret(),
        name: record.title(),
    })
}
