//! A store whose every step others can come before and after, and the clock.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keyward::async_trait;
use keyward::clock::{ClockError, MonotonicClock};
use keyward::key::{KeyId, StoredKey};
use keyward::store::{
    ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, MemoryStore, Page,
    StoreError, UsageStore,
};
use shuttle::thread::JoinHandle;

/// When a commit takes place, and what is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commits {
    /// As it is waited for.
    Here,
    /// By itself: whether or not it is waited for.
    Apart,
    /// By itself, and nobody is told.
    Lost,
}

/// How news are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feed {
    Whole,
    /// One change a page.
    Paged,
    /// The first cursor that is brought is not known.
    Forgetful,
}

/// Keys in memory. Each call lets others go on before its effect and after it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) inner: MemoryStore,
    commits: Commits,
    feed: Feed,
    has_forgotten: Arc<AtomicBool>,
    apart: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Stage {
    pub(crate) fn over(inner: MemoryStore, commits: Commits, feed: Feed) -> Self {
        Self {
            inner,
            commits,
            feed,
            has_forgotten: Arc::default(),
            apart: Arc::default(),
        }
    }

    /// Waits until every commit has ended.
    pub(crate) fn settle(&self) {
        while let Some(thread) = self.apart() {
            thread.join().unwrap();
        }
    }

    fn apart(&self) -> Option<JoinHandle<()>> {
        self.apart.lock().unwrap().pop()
    }

    fn commit_apart(&self, set: &ChangeSet) -> Arc<Answer> {
        let answer = Arc::<Answer>::default();
        let (inner, set, told) = (self.inner.clone(), set.clone(), Arc::clone(&answer));
        let thread = shuttle::thread::spawn(move || {
            hop();
            let committed = at_once(inner.commit(&set));
            hop();
            let mut told = told.lock().unwrap();
            told.0 = Some(committed);
            if let Some(waker) = told.1.take() {
                waker.wake();
            }
        });
        self.apart.lock().unwrap().push(thread);
        answer
    }
}

/// The answer of a commit that goes on by itself, and who waits for it.
type Answer = Mutex<(Option<Result<Committed, StoreError>>, Option<Waker>)>;

#[async_trait]
impl KeyStore for Stage {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        pause().await;
        let read = self.inner.get(id).await;
        pause().await;
        read
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        self.inner.list(query).await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        pause().await;
        if self.commits == Commits::Here {
            let committed = self.inner.commit(set).await;
            pause().await;
            return committed;
        }
        let answer = self.commit_apart(set);
        pause().await;
        if self.commits == Commits::Lost {
            return Err(StoreError::Indeterminate("the answer was lost".into()));
        }
        poll_fn(|context| {
            let mut answer = answer.lock().unwrap();
            answer.1 = Some(context.waker().clone());
            answer.0.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        pause().await;
        let is_forgotten = self.feed == Feed::Forgetful
            && after.is_some()
            && !self.has_forgotten.swap(true, Ordering::Relaxed);
        let mut page = self
            .inner
            .changes(after.filter(|_| !is_forgotten), wait)
            .await;
        if let (
            Feed::Paged,
            Some(after),
            Ok(FeedPage::Next {
                items,
                next,
                has_more,
            }),
        ) = (self.feed, after, &mut page)
            && items.len() > 1
        {
            items.truncate(1);
            next.position = after.position + 1;
            *has_more = true;
        }
        pause().await;
        page
    }

    fn events(&self) -> Option<&dyn EventLog> {
        self.inner.events()
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        self.inner.usage()
    }
}

/// Lets others go on, once.
async fn pause() {
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The same outside of a future.
pub(crate) fn hop() {
    shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
}

/// The value of a future that never has to wait.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    poll_times(future, 1).expect("it does not wait")
}

/// The value of a future that is dropped after so many polls, if it has one by then. Others can go on in between.
pub(crate) fn poll_times<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    for poll in 0..polls {
        if poll > 0 {
            hop();
        }
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
    }
    None
}

/// A monotonic clock that is moved by hand. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Monotonic(Arc<AtomicU64>);

impl Monotonic {
    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap();
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

impl MonotonicClock for Monotonic {
    fn elapsed(&self) -> Result<Duration, ClockError> {
        Ok(self.now())
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}
