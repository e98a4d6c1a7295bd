//! All accounts and payments, in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use example_support::{Paged, Paging};

use crate::account::{Account, AccountForm, AccountPatch, AccountStatus};
use crate::fault::Fault;
use crate::payment::{Payment, PaymentForm, PaymentPatch, RefundForm};

/// All accounts and payments.
#[derive(Default)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    accounts: BTreeMap<String, Account>,
    payments: BTreeMap<String, Payment>,
    /// The number of accounts and payments ever created, so that no id is used twice.
    opened: u32,
    made: u32,
}

impl Ledger {
    pub(crate) fn accounts(&self, paging: &Paging) -> Paged<Account> {
        let books = self.books();
        paging.page(books.accounts.values().cloned(), |account| &account.id)
    }

    pub(crate) fn account(&self, id: &str) -> Result<Account, Fault> {
        self.books().account(id).cloned()
    }

    pub(crate) fn open(&self, details: AccountForm) -> Account {
        self.books().open(details)
    }

    pub(crate) fn replace_account(&self, id: &str, details: AccountForm) -> Result<Account, Fault> {
        self.books().change_account(id, |_| details)
    }

    pub(crate) fn change_account(&self, id: &str, patch: AccountPatch) -> Result<Account, Fault> {
        self.books()
            .change_account(id, |details| details.with(patch))
    }

    pub(crate) fn close(&self, id: &str) -> Result<(), Fault> {
        let mut books = self.books();
        books.account(id)?;
        if books.has_payments(id) {
            return Err(Fault::Conflict(
                "An account with payments cannot be deleted.",
            ));
        }
        books.accounts.remove(id);
        Ok(())
    }

    pub(crate) fn payments(&self, paging: &Paging) -> Paged<Payment> {
        let books = self.books();
        paging.page(books.payments.values().cloned(), |payment| &payment.id)
    }

    pub(crate) fn payments_of(
        &self,
        account: &str,
        paging: &Paging,
    ) -> Result<Paged<Payment>, Fault> {
        let books = self.books();
        books.account(account)?;
        let payments = books.payments.values();
        let payments = payments.filter(|payment| payment.order.account == account);
        Ok(paging.page(payments.cloned(), |payment| &payment.id))
    }

    pub(crate) fn payment(&self, id: &str) -> Result<Payment, Fault> {
        self.books().payment(id).cloned()
    }

    pub(crate) fn pay(&self, order: PaymentForm) -> Result<Payment, Fault> {
        let mut books = self.books();
        books.check(&order)?;
        Ok(books.make(order))
    }

    pub(crate) fn replace_payment(&self, id: &str, order: PaymentForm) -> Result<Payment, Fault> {
        let mut books = self.books();
        let payment = books.payment(id)?.clone();
        books.check(&order)?;
        Ok(books.keep_payment(payment.replaced(order)?))
    }

    pub(crate) fn change_payment(&self, id: &str, patch: PaymentPatch) -> Result<Payment, Fault> {
        let mut books = self.books();
        let payment = books.payment(id)?.clone();
        Ok(books.keep_payment(payment.with(patch)?))
    }

    pub(crate) fn refund(&self, id: &str, form: &RefundForm) -> Result<Payment, Fault> {
        let mut books = self.books();
        let payment = books.payment(id)?.clone();
        Ok(books.keep_payment(payment.refund(form)?))
    }

    pub(crate) fn remove_payment(&self, id: &str) -> Result<(), Fault> {
        let mut books = self.books();
        books.payment(id)?.check_removable()?;
        books.payments.remove(id);
        Ok(())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn account(&self, id: &str) -> Result<&Account, Fault> {
        self.accounts.get(id).ok_or(Fault::NotFound("account"))
    }

    fn payment(&self, id: &str) -> Result<&Payment, Fault> {
        self.payments.get(id).ok_or(Fault::NotFound("payment"))
    }

    fn has_payments(&self, account: &str) -> bool {
        let mut payments = self.payments.values();
        payments.any(|payment| payment.order.account == account)
    }

    fn open(&mut self, details: AccountForm) -> Account {
        self.opened += 1;
        let id = format!("acc-{:06}", self.opened);
        self.keep_account(Account { id, details })
    }

    fn make(&mut self, order: PaymentForm) -> Payment {
        self.made += 1;
        let id = format!("pay-{:06}", self.made);
        self.keep_payment(Payment::new(id, order))
    }

    fn change_account(
        &mut self,
        id: &str,
        change: impl FnOnce(AccountForm) -> AccountForm,
    ) -> Result<Account, Fault> {
        let before = self.account(id)?;
        let details = change(before.details.clone());
        if details.currency != before.details.currency && self.has_payments(id) {
            return Err(Fault::Conflict(
                "An account with payments keeps its currency.",
            ));
        }
        let id = id.to_owned();
        Ok(self.keep_account(Account { id, details }))
    }

    /// Checks that the named account can make this payment.
    fn check(&self, order: &PaymentForm) -> Result<(), Fault> {
        let account = self.accounts.get(&order.account);
        let account =
            account.ok_or_else(|| Fault::Invalid("There is no such account.".to_owned()))?;
        if account.details.currency != order.currency {
            return Err(Fault::Invalid(
                "The account is held in another currency.".to_owned(),
            ));
        }
        match account.details.status {
            AccountStatus::Open => Ok(()),
            AccountStatus::Frozen => Err(Fault::Conflict("The account is frozen.")),
        }
    }

    fn keep_account(&mut self, account: Account) -> Account {
        self.accounts.insert(account.id.clone(), account.clone());
        account
    }

    fn keep_payment(&mut self, payment: Payment) -> Payment {
        self.payments.insert(payment.id.clone(), payment.clone());
        payment
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}
