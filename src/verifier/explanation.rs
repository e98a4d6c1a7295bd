//! The explanation of a decision, check by check.

mod values;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::values::{compared, shown};
use super::attempt::Attempt;
use super::checks::{Check, CheckInput};
use super::denial::{Denial, DenialReason, DeniedKey, Limited};
use crate::cache::{Cache, CompiledRecord};
use crate::clock::WallClockReading;
use crate::credential::{Credential, Credentials};
use crate::hashing::{Possession, Purpose};
use crate::key::KeyId;
use crate::limiter::{
    Charge, LimitRule, LimitSet, LimitState, Limiting, Meter, PlanMissing, TakeError, Tick,
};

/// The decision that a request would get, check by check.
///
/// Its `Display` is for an operator's terminal, one line per check.
///
/// # Security
/// It contains no secret. Do not send it to callers: it shows whether a key exists.
#[derive(Debug)]
pub struct Explanation {
    key: DeniedKey,
    steps: Vec<Step>,
    denial: Option<Denial>,
}

/// One check of an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The name of the check, such as `secret` or `network`.
    pub check: &'static str,
    /// The outcome of the check.
    pub outcome: StepOutcome,
}

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// The check passed; the text names the value that met it.
    Passed(String),
    /// The check failed; the text says why, with the values that it compares. The first failed check decides.
    Failed(String),
    /// The check was left out: [`Verifier::explain_key`](super::Verifier::explain_key) has no credential.
    Unchecked,
    /// The check was not reached: an earlier one ended the decision.
    Unreached,
}

impl Explanation {
    /// Returns the presented id; `None` if no id could be read.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        self.key.id()
    }

    /// Returns every check in its order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns the denial that the request would get; `None` if it would be admitted.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        self.denial.as_ref()
    }

    /// Explains the decision on a request.
    pub(super) async fn of(
        cache: &Cache,
        credentials: &Credentials,
        limiting: &Limiting,
        attempt: &Attempt<'_>,
    ) -> Self {
        let mut explained = Self::new(DeniedKey::Unread);
        let compiler = &cache.reads.compiler;
        let credential = match credentials.read(attempt.presented, &compiler.format) {
            Ok(credential) => credential,
            Err(error) => {
                let denial = Denial::malformed(error);
                explained.steps.push(Step {
                    check: "credential",
                    outcome: StepOutcome::Failed(denial.reason().to_string()),
                });
                explained.denial = Some(denial);
                return explained.unreached(&AFTER);
            }
        };
        explained.key = DeniedKey::Named(credential.id);
        let written = match (credential.legacy, credential.environment) {
            (Some(name), _) => format!("of the legacy format {name}"),
            (None, Some(environment)) => format!("of this format, for {environment}"),
            (None, None) => "an id and a secret".to_owned(),
        };
        explained.passed("credential", written);
        let Some(compiled) = explained.read(cache, credential.id).await else {
            return explained.unreached(AFTER.get(1..).unwrap_or_default());
        };
        let proof = credentials.verify(compiled.record(), &credential, Purpose::Trial);
        let secret = match proof.await {
            Ok(Possession::Proven { .. }) => Ok(()),
            Ok(Possession::Refuted) => Err(DenialReason::WrongSecret),
            Err(error) => Err(DenialReason::Hashing(error)),
        };
        if let Err(reason) = secret {
            explained.failed("secret", reason);
            return explained.unreached(AFTER.get(2..).unwrap_or_default());
        }
        explained.key = DeniedKey::Proven(Arc::clone(&compiled.cached));
        explained.passed("secret", "it is the key's");
        let checked = explained.check(cache, limiting, attempt, &compiled, &credential);
        checked.await
    }

    /// Explains the decision on a request that proves the secret of the key with this id.
    pub(super) async fn of_key(
        cache: &Cache,
        limiting: &Limiting,
        id: KeyId,
        attempt: &Attempt<'_>,
    ) -> Self {
        let mut explained = Self::new(DeniedKey::Named(id));
        explained.unchecked("credential");
        let Some(compiled) = explained.read(cache, id).await else {
            return explained.unreached(AFTER.get(1..).unwrap_or_default());
        };
        explained.unchecked("secret");
        // In the form that the key's client was given.
        let credential = Credential {
            id,
            prefix: None,
            environment: None,
            secret: b"",
            text: b"",
            legacy: compiled.record().legacy_format(),
        };
        let checked = explained.check(cache, limiting, attempt, &compiled, &credential);
        checked.await
    }

    fn new(key: DeniedKey) -> Self {
        Self {
            key,
            steps: Vec::new(),
            denial: None,
        }
    }

    /// Reads the key's record. `None` if that failed.
    async fn read(&mut self, cache: &Cache, id: KeyId) -> Option<CompiledRecord> {
        let compiled = match cache.reads.read_record(id).await {
            Ok(record) => cache.reads.compiler.compile(record),
            Err(error) => {
                self.failed("key", error.into());
                return None;
            }
        };
        self.key = DeniedKey::Claimed(Arc::clone(&compiled.cached));
        let record = compiled.record();
        self.passed(
            "key",
            format!(
                "{}, `{}` of {}, owner {}, revision {}",
                record.display_prefix(),
                record.title(),
                record.tenant(),
                record.owner(),
                record.revision()
            ),
        );
        Some(compiled)
    }

    /// Runs the checks that follow the proof of the secret.
    async fn check(
        self,
        cache: &Cache,
        limiting: &Limiting,
        attempt: &Attempt<'_>,
        compiled: &CompiledRecord,
        credential: &Credential<'_>,
    ) -> Self {
        let mut explained = self;
        let record = compiled.record();
        let wall = match WallClockReading::read(&*cache.clock) {
            Ok(wall) => wall,
            Err(error) => {
                // Without a clock no later check runs.
                let mut explained = explained.unreached(AFTER.get(2..5).unwrap_or_default());
                explained.failed("status", DenialReason::Clock(error));
                return explained.unreached(AFTER.get(6..).unwrap_or_default());
            }
        };
        let now = cache.slots.lease.now();
        let input = CheckInput {
            cache,
            limiting,
            credential,
            attempt,
            wall,
            now: now.unwrap_or_default(),
        };
        for check in Check::ALL {
            let (name, by) = shown(check, record, attempt);
            match input.check(check, compiled) {
                Ok(()) => explained.passed(name, by),
                Err(reason) => {
                    let values = compared(check, &reason, record, &input);
                    explained.failed_by(name, reason, values);
                }
            }
        }
        let now = match now {
            Ok(now) => now,
            Err(error) => {
                explained.failed("limits", DenialReason::Clock(error));
                return explained;
            }
        };
        if let Err(error) = limiting.load_plan(record, now).await {
            explained.failed("limits", DenialReason::Plan(error));
            return explained;
        }
        let route = attempt.requirement.quotas();
        match limiting.meter(&mut None, record, route, now) {
            Ok(Some(meter)) => explained.limits(meter, Tick::from_nanos(now), attempt),
            Ok(None) => explained.passed("limits", "none"),
            Err(PlanMissing) => explained.failed("limits", DenialReason::StaleCache),
        }
        explained
    }

    /// Adds the answer of each limit to the request.
    fn limits(&mut self, meter: &Arc<dyn Meter>, now: Tick, attempt: &Attempt<'_>) {
        // A charge of nothing fails if the limiter cannot tell.
        if let Some(Err(TakeError::Failed(error))) = meter.try_take(now, Charge::new(0, false)) {
            return self.failed("limits", DenialReason::Limiter(error));
        }
        let cost = attempt.cost_of_quotas().get();
        let states = meter.states(now, cost);
        let refusal = refusal(&states, cost);
        // If several limits refuse the request, the denial is that of all together.
        if let (None, Some(error)) = (&self.denial, refusal) {
            let (reason, _) = Limited::refused(meter, cost, error);
            self.denial = Some(Denial::new(self.key.clone(), reason, None));
        }
        for state in &states {
            let (most, left) = (state.limit.most(), state.remaining);
            match answer_of(state, cost) {
                Some(reason) => {
                    let values = format!("{left} of {most} left, and the request takes {cost}");
                    self.failed_by("limits", reason, Some(values));
                }
                None => self.passed(
                    "limits",
                    format!("{}: {left} of {most} left", state.limit.name()),
                ),
            }
        }
    }

    fn passed(&mut self, check: &'static str, by: impl Into<String>) {
        let outcome = StepOutcome::Passed(by.into());
        self.steps.push(Step { check, outcome });
    }

    fn unchecked(&mut self, check: &'static str) {
        let outcome = StepOutcome::Unchecked;
        self.steps.push(Step { check, outcome });
    }

    fn failed(&mut self, check: &'static str, reason: DenialReason) {
        self.failed_by(check, reason, None);
    }

    /// Adds a failed check, with the values that it compares.
    fn failed_by(&mut self, check: &'static str, reason: DenialReason, values: Option<String>) {
        let text = match values {
            Some(values) => format!("{reason}: {values}"),
            None => reason.to_string(),
        };
        let outcome = StepOutcome::Failed(text);
        self.steps.push(Step { check, outcome });
        let key = &self.key;
        self.denial
            .get_or_insert_with(|| Denial::new(key.clone(), reason, None));
    }

    fn unreached(mut self, checks: &[&'static str]) -> Self {
        let outcome = StepOutcome::Unreached;
        let steps = checks.iter().map(|check| Step {
            check,
            outcome: outcome.clone(),
        });
        self.steps.extend(steps);
        self
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key_id() {
            Some(key) => writeln!(f, "key {key}")?,
            None => writeln!(f, "no key")?,
        }
        for Step { check, outcome } in &self.steps {
            match outcome {
                StepOutcome::Passed(by) => writeln!(f, "  pass  {check:<12} {by}")?,
                StepOutcome::Failed(why) => writeln!(f, "  FAIL  {check:<12} {why}")?,
                StepOutcome::Unchecked => writeln!(f, "   ?    {check:<12} not checked")?,
                StepOutcome::Unreached => writeln!(f, "   -    {check}")?,
            }
        }
        let is_checked = |step: &Step| step.outcome != StepOutcome::Unchecked;
        match &self.denial {
            None if self.steps.iter().all(is_checked) => write!(f, "200 the request is admitted"),
            None => write!(f, "200 the request is admitted if it carries this key"),
            Some(denial) => write!(f, "{} {denial}", denial.class().status()),
        }
    }
}

/// The checks after that of the credential.
const AFTER: [&str; 10] = [
    "key",
    "secret",
    "environment",
    "format",
    "tenant",
    "status",
    "network",
    "access",
    "resources",
    "limits",
];

/// Returns why a limit refuses a request of this cost; `None` if it does not.
fn answer_of(state: &LimitState, cost: u32) -> Option<DenialReason> {
    match &state.limit.rule {
        LimitRule::Quota(quota) if cost > quota.limit().get() => {
            let quota = Arc::clone(quota.shared_name());
            Some(DenialReason::CostAboveLimit { quota })
        }
        LimitRule::Quota(quota) if cost > state.remaining => Some(DenialReason::QuotaExceeded {
            quota: Arc::clone(quota.shared_name()),
            retry_after: state.reset_after,
        }),
        LimitRule::Concurrency(_) if state.remaining == 0 => Some(DenialReason::TooManyInFlight),
        _ => None,
    }
}

/// Returns why all the limits together refuse a request of this cost; `None` if they do not.
fn refusal(states: &[LimitState], cost: u32) -> Option<TakeError> {
    let [mut too_costly, mut exceeded, mut busy] = [LimitSet::default(); 3];
    let mut retry_after = Duration::ZERO;
    for (index, state) in states.iter().enumerate() {
        match answer_of(state, cost) {
            Some(DenialReason::CostAboveLimit { .. }) => too_costly.insert(index),
            Some(DenialReason::QuotaExceeded {
                retry_after: until, ..
            }) => {
                exceeded.insert(index);
                retry_after = retry_after.max(until);
            }
            Some(_) => busy.insert(index),
            None => {}
        }
    }
    if !too_costly.is_empty() {
        Some(TakeError::CostAboveLimit { limits: too_costly })
    } else if !exceeded.is_empty() {
        Some(TakeError::Exceeded {
            limits: exceeded,
            retry_after,
        })
    } else {
        (!busy.is_empty()).then_some(TakeError::TooManyInFlight { limits: busy })
    }
}
