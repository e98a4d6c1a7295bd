//! Keeps keys in a SQLite file until it is killed, and says on its standard output what was acknowledged.
//!
//! `crash_program open FILE` waits for a line, opens the file, and ends. `crash_program write FILE SEED OPERATIONS` has
//! each of three tasks do so many things to the keys in it. `crash_program delete FILE SEED` issues, purges and
//! removes, and cuts the log, without end. `crash_program import FILE ROWS` imports so many keys. Each line that they
//! write is of something that had returned before.

use std::error::Error;
use std::io::{Write as _, stdin, stdout};
use std::sync::Arc;
use std::time::Duration;

use keyward::Keyward;
use keyward::key::{KeyId, Principal, RevokeReason, TenantId};
use keyward::manager::{Actor, KeyQuery, ManageError, Overlap, RevokeAll};
use keyward::store::{SqliteOptions, SqliteStore, StoreError};
use keyward::time::OffsetDateTime;
use sqlite_store::{
    Choices, OWNER, TITLE, actor, builder, is_granted, new_key, old_keys, old_row, tenant,
};

type Failure = Box<dyn Error + Send + Sync>;

const TASKS: u64 = 3;
/// Keys that a task has in hand at most.
const KEYS: usize = 24;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["open", file] => {
            // Until it is told to: so that several begin at one moment.
            stdin().read_line(&mut String::new())?;
            open(file)?;
            say("opened")
        }
        ["write", file, seed, operations] => write(file, seed.parse()?, operations.parse()?).await,
        ["delete", file, seed] => delete(file, Choices::new(seed.parse()?)).await,
        ["import", file, rows] => import(file, rows.parse()?).await,
        _ => Err(
            "crash_program open FILE | write FILE SEED OPERATIONS | delete FILE SEED | import FILE ROWS"
                .into(),
        ),
    }
}

/// Patient enough for a machine that stands still for a while in which others have the lock.
fn open(file: &str) -> Result<SqliteStore, StoreError> {
    let patience = Duration::from_mins(1);
    SqliteOptions::new().patience(patience).open(file)
}

async fn write(file: &str, seed: u64, operations: u64) -> Result<(), Failure> {
    let keyward = Arc::new(builder(open(file)?).open().await?);
    say("opened")?;
    let tasks = (0..TASKS).map(|task| {
        let writer = Writer::new(Arc::clone(&keyward), task, seed * TASKS + task);
        tokio::spawn(async move { writer?.run(operations).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}

/// Issues keys to a few tenants, and deletes what there is.
async fn delete(file: &str, mut choices: Choices) -> Result<(), Failure> {
    let keyward = builder(open(file)?).open().await?;
    let (manager, actor) = (keyward.manager(), actor());
    say("opened")?;
    let mut keys = Vec::new();
    loop {
        let name = format!("tenant-{}", choices.below(3));
        let tenant = tenant(&name).ok_or("no tenant")?;
        match choices.below(12) {
            0..6 => {
                let owner = Principal::user(OWNER)?;
                let new = new_key(&tenant, TITLE).owner(owner);
                let key = manager.issue(&actor, new).await?;
                is_granted(&keyward, &key).await;
                let id = key.record().id();
                keys.push((tenant, id));
                say(&format!("issued {id}"))?;
            }
            6 => {
                keyward.flush_usage().await?;
            }
            7 => {
                let owner = Principal::user(OWNER)?;
                let all = RevokeAll::new(RevokeReason::Leaked).owner(&owner);
                manager.revoke_all(&actor, &tenant, all).await?;
            }
            8 if !keys.is_empty() => {
                let (tenant, id) = keys.swap_remove(choices.below(keys.len()));
                let revoked = manager.revoke(&actor, &tenant, id, RevokeReason::Requested);
                // Another step was there first.
                let _ = revoked.await;
            }
            9 => {
                let now = OffsetDateTime::now_utc();
                let purged = manager.purge(&actor, &tenant, now, None).await?;
                for id in purged.keys {
                    say(&format!("purged {id}"))?;
                }
            }
            10 => {
                let removed = manager.remove_tenant(&actor, &tenant).await?;
                say(&format!("removed {name} {}", removed))?;
            }
            _ => {
                let now = OffsetDateTime::now_utc();
                let cut = manager.cut_events(&actor, now).await?;
                say(&format!("cut {}", cut))?;
            }
        }
    }
}

/// Imports the rows of an old table from its beginning, as a migration that may have been stopped before.
async fn import(file: &str, rows: usize) -> Result<(), Failure> {
    let keyward = old_keys(builder(open(file)?))?.open().await?;
    let (manager, actor) = (keyward.manager(), actor());
    say("opened")?;
    let all: Vec<usize> = (0..rows).collect();
    for batch in all.chunks(100) {
        let table = batch.iter().map(|row| old_row(*row));
        let table = table.collect::<Option<Vec<_>>>().ok_or("no row")?;
        for (row, answer) in batch.iter().zip(manager.import_all(&actor, table).await) {
            match answer {
                Ok(_) | Err(ManageError::AlreadyImported { .. }) => {
                    say(&format!("imported {row}"))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

struct Writer {
    keyward: Arc<Keyward>,
    actor: Actor,
    tenant: TenantId,
    /// Whose keys are revoked all at once.
    swept: TenantId,
    choices: Choices,
    /// Keys that were good when last heard of.
    keys: Vec<KeyId>,
}

impl Writer {
    fn new(keyward: Arc<Keyward>, task: u64, seed: u64) -> Result<Self, Failure> {
        // One tenant for all tasks: they meet in its keys.
        let shared = tenant("shared").ok_or("no tenant")?;
        let swept = tenant(&format!("swept-{task}")).ok_or("no tenant")?;
        Ok(Self {
            keyward,
            actor: actor(),
            tenant: shared,
            swept,
            choices: Choices::new(seed),
            keys: Vec::new(),
        })
    }

    async fn run(mut self, operations: u64) -> Result<(), Failure> {
        // Those that stood in the file before are rotated and revoked too.
        let query = KeyQuery::of(&self.tenant).live_first().limit(16);
        let before = self.keyward.manager().list(&self.actor, &query).await?;
        self.keys.extend(before.keys.iter().map(|key| key.id()));
        for _ in 0..operations {
            match self.step().await {
                Ok(()) => {}
                Err(failure) if is_met(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), Failure> {
        let manager = self.keyward.manager();
        let place = self.choices.below(KEYS);
        let Some(id) = self.keys.get(place).copied() else {
            let issued = manager.issue(&self.actor, new_key(&self.tenant, "issued"));
            let id = issued.await?.record().id();
            self.keys.push(id);
            return say(&format!("issued {id}"));
        };
        match self.choices.below(10) {
            0..5 => {
                let overlap = match self.choices.below(4) {
                    0 => Overlap::None,
                    1 => Overlap::For(Duration::from_millis(1)),
                    2 => Overlap::For(Duration::from_hours(1)),
                    _ => Overlap::UntilRevoked,
                };
                let ends = if overlap == Overlap::None {
                    "none"
                } else {
                    "some"
                };
                // Whatever comes of it, it will not be rotated again.
                self.keys.swap_remove(place);
                let successor = manager.rotate(&self.actor, &self.tenant, id, overlap);
                let successor = successor.await?;
                let (heir, at) = (successor.record().id(), successor.record().created_at());
                self.keys.push(heir);
                say(&format!("rotated {id} {heir} {} {ends}", micros(at)))
            }
            5..9 => {
                self.keys.swap_remove(place);
                let reason = RevokeReason::Requested;
                let revoked = manager.revoke(&self.actor, &self.tenant, id, reason);
                let at = micros(revoked.await?.at);
                say(&format!("revoked {id} {at}"))
            }
            _ => {
                // Two sets' worth.
                for _ in 0..18 {
                    let issued = manager.issue(&self.actor, new_key(&self.swept, "swept"));
                    let id = issued.await?.record().id();
                    say(&format!("issued {id}"))?;
                }
                let all = RevokeAll::new(RevokeReason::Leaked);
                let swept = manager.revoke_all(&self.actor, &self.swept, all).await?;
                let before = micros(swept.before);
                say(&format!("swept {} {before}", self.swept.as_str()))
            }
        }
    }
}

/// Whether somebody else had just done something to the same key.
fn is_met(failure: &Failure) -> bool {
    matches!(
        failure.downcast_ref::<ManageError>(),
        Some(
            ManageError::AlreadyRevoked { .. }
                | ManageError::AlreadyRotated { .. }
                | ManageError::Ended(_)
                | ManageError::CutOff
                | ManageError::Store(StoreError::Conflict)
        )
    )
}

fn micros(at: OffsetDateTime) -> i128 {
    at.unix_timestamp_nanos() / 1_000
}

/// Writes one line, whole.
fn say(line: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    Ok(out.flush()?)
}
