//! Stores around another.

use std::pin::Pin;

#[doc(hidden)]
pub use keyward::key::{KeyId, StoredKey, TenantId};
#[doc(hidden)]
pub use keyward::store::{
    ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, Page, StoreError,
    UsageStore,
};

/// The answer of an asynchronous method of a store.
#[doc(hidden)]
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Makes the named methods of a store that call the same ones of the store in a field:
/// `passes_on!(inner: get list tenants commit changes events usage);` in an `impl KeyStore`.
#[macro_export]
macro_rules! passes_on {
    ($inner:ident: $($method:ident)+) => {
        $( $crate::passes_on! { @$method $inner } )+
    };
    (@get $inner:ident) => {
        fn get<'s, 'a>(
            &'s self,
            id: $crate::around::KeyId,
        ) -> $crate::around::Answer<'a, Option<$crate::around::StoredKey>>
        where
            's: 'a,
            Self: 'a,
        {
            $crate::around::KeyStore::get(&self.$inner, id)
        }
    };
    (@list $inner:ident) => {
        fn list<'s, 'q, 'a>(
            &'s self,
            query: &'q $crate::around::ListQuery,
        ) -> $crate::around::Answer<'a, $crate::around::Page<$crate::around::StoredKey>>
        where
            's: 'a,
            'q: 'a,
            Self: 'a,
        {
            $crate::around::KeyStore::list(&self.$inner, query)
        }
    };
    (@tenants $inner:ident) => {
        fn tenants<'s, 't, 'a>(
            &'s self,
            after: Option<&'t $crate::around::TenantId>,
            limit: usize,
        ) -> $crate::around::Answer<'a, Vec<$crate::around::TenantId>>
        where
            's: 'a,
            't: 'a,
            Self: 'a,
        {
            $crate::around::KeyStore::tenants(&self.$inner, after, limit)
        }
    };
    (@commit $inner:ident) => {
        fn commit<'s, 'c, 'a>(
            &'s self,
            set: &'c $crate::around::ChangeSet,
        ) -> $crate::around::Answer<'a, $crate::around::Committed>
        where
            's: 'a,
            'c: 'a,
            Self: 'a,
        {
            $crate::around::KeyStore::commit(&self.$inner, set)
        }
    };
    (@changes $inner:ident) => {
        fn changes<'s, 'c, 'a>(
            &'s self,
            after: Option<&'c $crate::around::Cursor>,
            wait: std::time::Duration,
        ) -> $crate::around::Answer<'a, $crate::around::FeedPage>
        where
            's: 'a,
            'c: 'a,
            Self: 'a,
        {
            $crate::around::KeyStore::changes(&self.$inner, after, wait)
        }
    };
    (@events $inner:ident) => {
        fn events(&self) -> Option<&dyn $crate::around::EventLog> {
            $crate::around::KeyStore::events(&self.$inner)
        }
    };
    (@usage $inner:ident) => {
        fn usage(&self) -> Option<&dyn $crate::around::UsageStore> {
            $crate::around::KeyStore::usage(&self.$inner)
        }
    };
}
