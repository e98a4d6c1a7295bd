//! The form with which a person requests a key.

use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use example_support::NotDone;
use keyward::key::{Access, Quota, Resource, Resources, Scope, TenantId};
use keyward::manager::NewKey;
use keyward::time::Date;
use keyward::time::format_description::well_known::Iso8601;
use serde::{Deserialize, Deserializer};

use crate::api::PROJECT;
use crate::data::Workspaces;

/// The fields of the form: a name and scopes, and optionally a last day and the projects that the key is for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssueForm {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    expires_on: Option<String>,
    /// Absent: all projects. A list that a program left empty, or null, does not count as absent.
    #[serde(default, deserialize_with = "said")]
    projects: Option<Vec<String>>,
}

/// Maximum number of requests in any minute, and in any hour.
const MINUTE: NonZeroU32 = number(60);
const HOUR: NonZeroU32 = number(1_000);

/// Maximum number of concurrent requests.
const CONCURRENT: NonZeroU32 = number(5);

impl IssueForm {
    /// Builds the key that the form requests.
    pub(crate) fn key(self, tenant: &TenantId, workspaces: &Workspaces) -> Result<NewKey, NotDone> {
        let scopes: Result<Vec<Scope>, _> = self.scopes.iter().map(|text| text.parse()).collect();
        // The product grants only requested scopes: without a scope there is no key.
        let access = Access::scopes(scopes.map_err(NotDone::form)?).map_err(NotDone::form)?;
        let mut new =
            limited(NewKey::new(tenant.clone(), self.name, access)).map_err(NotDone::form)?;
        if let Some(projects) = self.projects {
            new = new.resources(only(&projects, tenant, workspaces)?);
        }
        if let Some(day) = self.expires_on {
            let day = Date::parse(&day, &Iso8601::DATE).map_err(NotDone::form)?;
            new = new.expires_on(day);
        }
        Ok(new)
    }
}

fn only(
    projects: &[String],
    tenant: &TenantId,
    workspaces: &Workspaces,
) -> Result<Resources, NotDone> {
    let resource = |id: &String| match workspaces.project(tenant, id) {
        Some(_) => Resource::new(PROJECT, id).map_err(NotDone::form),
        None => Err(NotDone::form(format!("there is no project {id}"))),
    };
    let projects: Vec<_> = projects.iter().map(resource).collect::<Result<_, _>>()?;
    // An empty list is a mistake and never means all projects.
    Resources::only(projects).map_err(NotDone::form)
}

fn said<'de, D: Deserializer<'de>>(list: D) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(list).map(Some)
}

/// Adds the limits that every key of this product has.
fn limited(new: NewKey) -> Result<NewKey, Box<dyn Error>> {
    Ok(new
        .quota(Quota::new("minute", MINUTE, Duration::from_mins(1))?)
        .quota(Quota::new("hour", HOUR, Duration::from_hours(1))?)
        .concurrency(CONCURRENT))
}

const fn number(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}
