//! Payments and their transitions.
//!
//! ```text
//! pending ──> settled ──> refunded
//!    └──────> canceled
//! ```

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::field::{Amount, Currency, Text, present};

/// A payment from an account.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Payment {
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) order: PaymentForm,
    status: PaymentStatus,
    /// The refunded part of the amount.
    refunded: u64,
}

/// The fields of a payment that callers set, when they make or replace it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentForm {
    pub(crate) account: String,
    pub(crate) amount: Amount,
    pub(crate) currency: Currency,
    pub(crate) reference: Text,
}

/// Changes to a payment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentPatch {
    #[serde(default, deserialize_with = "present")]
    amount: Option<Amount>,
    #[serde(default, deserialize_with = "present")]
    reference: Option<Text>,
    #[serde(default, deserialize_with = "present")]
    status: Option<PaymentStatus>,
}

/// The amount to refund. Absent: all that is left.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefundForm {
    #[serde(default, deserialize_with = "present")]
    amount: Option<Amount>,
}

/// The state of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PaymentStatus {
    Pending,
    Settled,
    Refunded,
    Canceled,
}

impl Payment {
    pub(crate) fn new(id: String, order: PaymentForm) -> Self {
        Self {
            id,
            order,
            status: PaymentStatus::Pending,
            refunded: 0,
        }
    }

    /// Replaces the fields of the payment.
    pub(crate) fn replaced(self, order: PaymentForm) -> Result<Self, Fault> {
        match self.status {
            PaymentStatus::Pending => Ok(Self { order, ..self }),
            _ => Err(Fault::Conflict("Only a pending payment can be replaced.")),
        }
    }

    /// Applies all of these changes, or none.
    pub(crate) fn with(mut self, patch: PaymentPatch) -> Result<Self, Fault> {
        if let Some(amount) = patch.amount {
            if self.status != PaymentStatus::Pending {
                return Err(Fault::Conflict(
                    "The amount of a pending payment alone can change.",
                ));
            }
            self.order.amount = amount;
        }
        if let Some(reference) = patch.reference {
            self.order.reference = reference;
        }
        if let Some(next) = patch.status {
            self.status = self.status.changed_to(next)?;
        }
        Ok(self)
    }

    /// Refunds this amount of the payment.
    pub(crate) fn refund(self, form: &RefundForm) -> Result<Self, Fault> {
        if self.status != PaymentStatus::Settled {
            return Err(Fault::Conflict("Only a settled payment can be refunded."));
        }
        let left = self.order.amount.units().saturating_sub(self.refunded);
        let back = form.amount.map_or(left, Amount::units);
        if back > left {
            return Err(Fault::Invalid(format!("No more than {left} can go back.")));
        }
        let status = if back == left {
            PaymentStatus::Refunded
        } else {
            PaymentStatus::Settled
        };
        let refunded = self.refunded + back;
        Ok(Self {
            status,
            refunded,
            ..self
        })
    }

    /// Fails if money has moved: the payment must then stay in the books.
    pub(crate) fn check_removable(&self) -> Result<(), Fault> {
        match self.status {
            PaymentStatus::Pending | PaymentStatus::Canceled => Ok(()),
            PaymentStatus::Settled | PaymentStatus::Refunded => Err(Fault::Conflict(
                "A payment that was settled cannot be deleted.",
            )),
        }
    }
}

impl PaymentPatch {
    /// Creates a change to this status only.
    pub(crate) fn status(status: PaymentStatus) -> Self {
        Self {
            amount: None,
            reference: None,
            status: Some(status),
        }
    }
}

impl PaymentStatus {
    fn changed_to(self, next: Self) -> Result<Self, Fault> {
        match (self, next) {
            (Self::Pending, Self::Settled | Self::Canceled) => Ok(next),
            _ if self == next => Ok(self),
            (_, Self::Refunded) => Err(Fault::Conflict("Refund the payment instead.")),
            _ => Err(Fault::Conflict(
                "Only a pending payment can be settled or canceled.",
            )),
        }
    }
}
