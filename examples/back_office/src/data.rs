//! Made-up accounts and payments, the same at each start.

use std::error::Error;

use crate::account::{AccountForm, AccountStatus};
use crate::field::{Amount, Currency, Text};
use crate::ledger::Ledger;
use crate::payment::{PaymentForm, PaymentPatch, PaymentStatus};

const HOLDERS: [&str; 5] = [
    "Alder Books",
    "Birch Foods",
    "Cedar Tools",
    "Dogwood Travel",
    "Elm Press",
];
const ACCOUNTS: usize = 120;
const PAYMENTS: usize = 420;

/// Creates 120 accounts and 420 payments: a third of them pending, a third settled, a third canceled.
pub(crate) fn made_up() -> Result<Ledger, Box<dyn Error>> {
    let ledger = Ledger::default();
    let holders = HOLDERS.iter().cycle().zip(1..=ACCOUNTS);
    let accounts = holders.map(|(holder, number)| {
        let email = Text::try_from(format!("accounts-{number}@example.com"))?;
        Ok(ledger.open(AccountForm {
            holder: Text::try_from(format!("{holder} {number}"))?,
            email: email.try_into()?,
            currency: match number % 3 {
                0 => Currency::Eur,
                1 => Currency::Gbp,
                _ => Currency::Usd,
            },
            status: AccountStatus::Open,
        }))
    });
    let accounts: Vec<_> = accounts.collect::<Result<_, Box<dyn Error>>>()?;
    for (account, number) in accounts.iter().cycle().zip(1..=PAYMENTS) {
        let amount = u64::try_from(100 + number * 7919 % 90_000)?;
        let payment = ledger.pay(PaymentForm {
            account: account.id.clone(),
            amount: Amount::try_from(amount)?,
            currency: account.details.currency,
            reference: Text::try_from(format!("Invoice {number:05}"))?,
        })?;
        match number % 3 {
            0 => {}
            1 => {
                ledger.change_payment(&payment.id, PaymentPatch::status(PaymentStatus::Settled))?;
            }
            _ => {
                ledger
                    .change_payment(&payment.id, PaymentPatch::status(PaymentStatus::Canceled))?;
            }
        }
    }
    Ok(ledger)
}
