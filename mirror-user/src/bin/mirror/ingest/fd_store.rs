//! systemd's file descriptor store (`FileDescriptorStoreMax=`): a run is kept there for the time after its
//! process was killed. Its sockets go on receiving, and the process that systemd starts next goes on with
//! what is in their rings, and with the account.
//!
//! Each descriptor has a name of its own, because systemd passes them in no particular sequence. In front of
//! the engine's are its description, and two files of which one has the last account: it is never incomplete
//! in both.

use std::{
    env,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd},
    process,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mirror_user::engine::{Inheritance, KeptAccount, Running, SocketsPass};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::notify::Notifier;
use crate::{
    channel::{self, read_text},
    http::{Board, OriginId},
    streams,
};

/// Between two accounts: of what is taken after the last one, only the number is known.
const INTERVAL: Duration = Duration::from_millis(200);
/// After a failure.
const RETRY: Duration = Duration::from_secs(10);
/// At most this part of the time goes to accounts, which are larger the more origins there are.
const SHARE: u32 = 20;
/// What precedes the engine's descriptors.
const OWN: usize = 1 + ACCOUNTS;
const ACCOUNTS: usize = 2;
/// The first descriptor that a service manager passes: `sd_listen_fds(3)`.
const FIRST: RawFd = 3;

/// The store, if the unit has one.
#[derive(Debug)]
pub(super) struct FdStore {
    /// How many descriptors it takes.
    most: usize,
    next: Instant,
    /// Once the run is in it.
    kept: Option<Stored>,
}

#[derive(Debug)]
struct Stored {
    descriptors: usize,
    accounts: [File; ACCOUNTS],
    /// The one to write to next.
    turn: usize,
}

/// What the process before this one has left in the store.
#[derive(Debug)]
pub(super) struct KeptRun {
    pub(super) inheritance: Option<Inheritance>,
    pub(super) account: StoredAccount,
}

/// An account, with what goes on of the metrics.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct StoredAccount {
    pub(super) account: KeptAccount,
    /// CPU time of the processes so far.
    pub(super) cpu: Duration,
    /// Origins that have series of their own.
    pub(super) listed: Vec<OriginId>,
}

impl FdStore {
    /// The store of the unit; `None` if it has none. systemd names its size from 254 on, the drop-in for
    /// others.
    pub(super) fn of_environment() -> Option<Self> {
        let most = env::var("FDSTORE").ok()?.parse().ok().filter(|most| *most > 0)?;
        Some(Self { most, next: Instant::now(), kept: None })
    }

    /// Takes what the process before this one has left, out of the store, too: if this one cannot go on with
    /// it, the next one need not try.
    pub(super) fn take(notifier: &Notifier) -> Option<KeptRun> {
        let named = received().unwrap_or_else(|error| {
            tracing::warn!("{NOT_CONTINUED}: {error:#}");
            Vec::new()
        });
        if named.is_empty() {
            return None;
        }
        let (places, descriptors): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        places.iter().for_each(|place| remove(notifier, *place));
        KeptRun::of(&places, descriptors)
            .inspect_err(|error| tracing::warn!("{NOT_CONTINUED}: {error:#}"))
            .ok()
    }

    /// Keeps the run, and its account now and then.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        notifier: &Notifier,
        running: &Running,
        board: Option<&Board>,
    ) {
        if now < self.next {
            return;
        }
        let Some(account) = StoredAccount::of(running, board) else { return };
        let mut interval = INTERVAL;
        let done = match &mut self.kept {
            Some(kept) => {
                let done = kept.renew(&account);
                interval = interval.max(now.elapsed() * SHARE);
                done
            }
            None => Stored::put(self.most, notifier, running, &account).map(|kept| self.kept = Some(kept)),
        };
        if let Err(error) = done {
            tracing::error!("the run is not kept for the time after a crash: {error:#}");
            self.clear(notifier);
            interval = RETRY;
        }
        self.next = now + interval;
    }

    /// Takes all of it out: the run ends, or another process has it.
    pub(super) fn clear(&mut self, notifier: &Notifier) {
        let Some(Stored { descriptors, accounts, .. }) = self.kept.take() else { return };
        // Whatever systemd still passes on is not continued then.
        if let Err(error) = accounts.iter().try_for_each(|file| file.set_len(0)) {
            tracing::warn!(%error, "an account in the file descriptor store");
        }
        (0..descriptors).for_each(|place| remove(notifier, place));
    }
}

/// Before the reason.
pub(super) const NOT_CONTINUED: &str = "the run that the last process has left is not continued";

fn name(place: usize) -> String {
    format!("mirror.{place}")
}

fn remove(notifier: &Notifier, place: usize) {
    notifier.notify(&format!("FDSTOREREMOVE=1\nFDNAME={}", name(place)));
}

/// The descriptors that systemd has passed, by their places.
fn received() -> anyhow::Result<Vec<(usize, OwnedFd)>> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    if number("LISTEN_PID") != i32::try_from(process::id()).ok() {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or_default();
    let names = env::var("LISTEN_FDNAMES").context("LISTEN_FDNAMES")?;
    let mut received = Vec::new();
    for (descriptor, name) in (FIRST..FIRST.saturating_add(count)).zip(names.split(':')) {
        let Some(place) = name.strip_prefix("mirror.").and_then(|place| place.parse().ok()) else { continue };
        // A copy, which programs that this one executes do not get; systemd's own they would.
        let copy = streams::copy_of(descriptor);
        nix::unistd::close(descriptor).with_context(|| name.to_owned())?;
        received.push((place, copy.with_context(|| name.to_owned())?));
    }
    received.sort_by_key(|(place, _)| *place);
    Ok(received)
}

impl StoredAccount {
    /// That of the run as it stands; `None` right after its start.
    fn of(running: &Running, board: Option<&Board>) -> Option<Self> {
        Some(Self {
            account: running.account_to_keep()?,
            cpu: board.map(Board::cpu).unwrap_or_default(),
            listed: board.map(Board::listed).unwrap_or_default(),
        })
    }
}

impl KeptRun {
    fn of(places: &[usize], descriptors: Vec<OwnedFd>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            descriptors.len() > OWN && places.iter().copied().eq(0..descriptors.len()),
            "systemd has {} of its descriptors",
            descriptors.len()
        );
        let mut descriptors = descriptors.into_iter();
        let description =
            read_text(descriptors.next().context("a descriptor")?).context("its description")?;
        let accounts: Vec<_> = descriptors.by_ref().take(ACCOUNTS).map(read_account).collect();
        let last = accounts.into_iter().flatten().max_by_key(|left: &StoredAccount| left.account.at());
        let inheritance = Inheritance::new(&description, descriptors.collect())?;
        Ok(Self { inheritance: Some(inheritance), account: last.context("it has left no account")? })
    }
}

/// `None` for one that was being written.
fn read_account(descriptor: OwnedFd) -> Option<StoredAccount> {
    let mut text = String::new();
    let mut file = File::from(descriptor);
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    serde_json::from_str(&text).ok()
}

impl Stored {
    fn put(
        most: usize,
        notifier: &Notifier,
        running: &Running,
        account: &StoredAccount,
    ) -> anyhow::Result<Self> {
        let offer = running.offer(SocketsPass::Kept)?;
        let descriptors = OWN + offer.descriptors().len();
        // systemd says nothing of those that it does not take.
        anyhow::ensure!(
            descriptors <= most,
            "the file descriptor store takes {most} descriptors, and this run has {descriptors}: raise \
            FileDescriptorStoreMax= and FDSTORE= (drop-ins/fd-store.conf)"
        );
        let description = channel::text(&offer.description()?)?;
        let file = || memfd_create(c"mirror-account", MemfdFlags::CLOEXEC).map(File::from);
        let accounts = [file()?, file()?];
        let mut stored = Self { descriptors, accounts, turn: 0 };
        stored.renew(account)?;
        let own = [&description].into_iter().map(|it| it.as_fd());
        let own: Vec<BorrowedFd<'_>> = own.chain(stored.accounts.iter().map(|file| file.as_fd())).collect();
        for (place, descriptor) in own.into_iter().chain(offer.descriptors()).enumerate() {
            let name = name(place);
            // Sockets and links signal what would have systemd remove them.
            let state = format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}");
            notifier.pass(&state, descriptor).with_context(|| format!("systemd does not take {name}"))?;
        }
        Ok(stored)
    }

    /// Writes an account.
    fn renew(&mut self, account: &StoredAccount) -> anyhow::Result<()> {
        let text = serde_json::to_vec(account)?;
        let file = &mut self.accounts[self.turn];
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&text)?;
        file.set_len(text.len() as u64)?;
        self.turn = (self.turn + 1) % ACCOUNTS;
        Ok(())
    }
}
