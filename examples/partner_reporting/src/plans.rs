//! The limits of endpoints, and customers with other ones.
//!
//! Each endpoint has a limit of requests per minute, which all keys of a partner share, including those that are issued
//! later. A file beside the keys gives customers other limits, and can be edited while the product runs:
//!
//! ```json
//! {"northwind": {"rollups": 300}}
//! ```

use std::collections::HashMap;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyward::async_trait;
use keyward::key::{Quota, QuotaSubject, TenantId, ValueError};
use keyward::limiter::{PlanBook, PlanError, PlanFallback, RateLimiting, TenantPlan};

/// Names of endpoints, each of which has a limit, with the limits of customers without another one.
pub(crate) const ROLLUPS: (&str, u32) = ("rollups", 60);
pub(crate) const REPORTS: (&str, u32) = ("reports", 600);
pub(crate) const USERS: (&str, u32) = ("users", 30_000);

/// How long a customer's limits hold after they were read.
const MAX_AGE: Duration = Duration::from_secs(2);

/// Returns the limit of an endpoint.
pub(crate) fn per_minute((name, limit): (&str, u32)) -> Result<Quota, ValueError> {
    let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::new(name, limit, Duration::from_mins(1))?;
    Ok(quota.per(QuotaSubject::Tenant))
}

/// A file of customers' limits: for each partner, requests per minute by the name of the endpoint.
#[derive(Debug)]
pub(crate) struct PlanFile(PathBuf);

impl PlanFile {
    /// Names the file beside the one with the keys.
    pub(crate) fn beside(keys: &Path) -> Self {
        Self(keys.with_extension("plans.json"))
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the limits of this file. If it cannot be read, for example since it is half edited, the last ones read
    /// stay in force.
    pub(crate) fn rate_limiting(self) -> RateLimiting {
        RateLimiting::new().plans(self, MAX_AGE, PlanFallback::LastKnown)
    }
}

#[async_trait]
impl PlanBook for PlanFile {
    async fn plan_of(&self, partner: &TenantId) -> Result<TenantPlan, PlanError> {
        let text = match tokio::fs::read_to_string(&self.0).await {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(TenantPlan::new()),
            Err(error) => return Err(PlanError::new(error)),
        };
        let plans: HashMap<String, HashMap<String, NonZeroU32>> =
            serde_json::from_str(&text).map_err(PlanError::new)?;
        let own = plans.get(partner.as_str()).into_iter().flatten();
        own.map(|(name, limit)| per_minute((name, limit.get())))
            .try_fold(
                TenantPlan::new(),
                |plan, quota| Ok(plan.route_quota(quota?)),
            )
            .map_err(|error: ValueError| PlanError::new(error))
    }
}
