//! Made-up payments, the same at each start. Changes are kept until the program ends.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use example_support::{Paged, Paging};
use serde::{Deserialize, Serialize};

const PAYMENTS: u32 = 420;

/// A payment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Payment {
    pub(crate) id: String,
    #[serde(flatten)]
    order: PaymentForm,
}

/// The fields of a payment that callers set, when they make or replace it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentForm {
    account: String,
    /// In the smallest unit of the currency, such as cents.
    amount: NonZeroU32,
    currency: Currency,
    reference: String,
}

/// Changes to a payment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentPatch {
    amount: Option<NonZeroU32>,
    reference: Option<String>,
}

/// The currencies of payments (ISO 4217).
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Currency {
    Eur,
    Gbp,
    Usd,
}

/// All payments, by id.
#[derive(Debug, Default)]
pub(crate) struct Payments {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    payments: BTreeMap<String, Payment>,
    /// The number of payments ever made, so that no id is used twice.
    made: u32,
}

impl Payments {
    /// Creates 420 payments.
    pub(crate) fn made_up() -> Self {
        let payments = Self::default();
        let currencies = [Currency::Gbp, Currency::Usd, Currency::Eur];
        for (number, currency) in (1..=PAYMENTS).zip(currencies.into_iter().cycle()) {
            payments.pay(PaymentForm {
                account: format!("acc-{:06}", number % 120),
                amount: NonZeroU32::MIN.saturating_add(number * 7919 % 90_000),
                currency,
                reference: format!("Invoice {number:05}"),
            });
        }
        payments
    }

    pub(crate) fn page(&self, paging: &Paging) -> Paged<Payment> {
        let books = self.books();
        paging.page(books.payments.values().cloned(), |payment| &payment.id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<Payment> {
        self.books().payments.get(id).cloned()
    }

    pub(crate) fn pay(&self, order: PaymentForm) -> Payment {
        let mut books = self.books();
        books.made += 1;
        let id = format!("pay-{:06}", books.made);
        let payment = Payment { id, order };
        books.payments.insert(payment.id.clone(), payment.clone());
        payment
    }

    pub(crate) fn replace(&self, id: &str, order: PaymentForm) -> Option<Payment> {
        self.with(id, |payment| payment.order = order)
    }

    pub(crate) fn change(&self, id: &str, patch: PaymentPatch) -> Option<Payment> {
        self.with(id, |payment| {
            let order = &mut payment.order;
            order.amount = patch.amount.unwrap_or(order.amount);
            if let Some(reference) = patch.reference {
                order.reference = reference;
            }
        })
    }

    pub(crate) fn remove(&self, id: &str) -> Option<Payment> {
        self.books().payments.remove(id)
    }

    fn with(&self, id: &str, change: impl FnOnce(&mut Payment)) -> Option<Payment> {
        let mut books = self.books();
        let payment = books.payments.get_mut(id)?;
        change(payment);
        Some(payment.clone())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
