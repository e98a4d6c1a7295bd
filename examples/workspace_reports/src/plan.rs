//! The limits that every key of this product has.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::async_trait;
use keyward::key::{Quota, TenantId};
use keyward::limiter::{PlanBook, PlanError, PlanFallback, RateLimiting, TenantPlan};

/// Maximum number of requests in any minute, and in any hour.
const MINUTE: NonZeroU32 = number(60);
const HOUR: NonZeroU32 = number(1_000);

/// Maximum number of concurrent requests.
const CONCURRENT: NonZeroU32 = number(5);

/// A plan for all workspaces. It is not part of the keys: another plan would hold for those that exist already.
#[derive(Debug)]
struct OnePlan;

#[async_trait]
impl PlanBook for OnePlan {
    async fn plan_of(&self, _: &TenantId) -> Result<TenantPlan, PlanError> {
        let quota = |name, limit, window| Quota::new(name, limit, window).map_err(PlanError::new);
        Ok(TenantPlan::new()
            .quota(quota("minute", MINUTE, Duration::from_mins(1))?)
            .quota(quota("hour", HOUR, Duration::from_hours(1))?)
            .concurrency(CONCURRENT))
    }
}

/// Returns the limits of all keys.
pub(crate) fn rate_limiting() -> RateLimiting {
    RateLimiting::new().plans(OnePlan, Duration::from_hours(1), PlanFallback::LastKnown)
}

const fn number(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}
