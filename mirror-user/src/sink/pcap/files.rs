//! The files of a capture: the current one, when the next starts, and which earlier ones are deleted.

use std::{
    collections::{HashSet, VecDeque},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{
    compress::Encoder,
    deleted::DeletedFiles,
    direct::Direct,
    held::{HeldBlock, HeldBlocks},
    losses::{Losses, Lost},
    min_free::{Claim, FreeSpace, MinFree, WhenFull},
    names::{NameError, Names, SeriesKey},
    origins::{OTHERS, Origins},
    part::{CaptureFormat, CapturePart, PacketEnd, PartOutput},
    rotation::{PacketClock, Rotation, Turn},
    rotator::{CaptureState, Hooks, OwnFile, Rotator, Turns},
};
use crate::{
    flow::seeded_hash,
    hidden_file::{Directory, FileId, HiddenFile, HiddenFileError},
    sink::{
        SinkError,
        handoff::{is_out_of_space, may_pass},
        origin::OriginKey,
    },
};

/// How a capture is split into files.
pub(super) struct Plan {
    pub(super) rotation: Rotation,
    pub(super) min_free: MinFree,
    /// What this capture, and those that share its minimum of free space, are about to write.
    pub(super) free_space: FreeSpace,
    /// With a file per origin: the most origins with a file.
    pub(super) origins: Option<usize>,
    /// The most named interfaces of a pcapng file.
    pub(super) max_interfaces: usize,
    /// The most bytes of blocks to hold until they are written; 0 to write each at once.
    pub(super) most_held: u64,
    /// The files follow those of another process, which has the current one: see [`Rotator::follow`].
    pub(super) follows: bool,
}

/// How long to wait for the space of a deleted file, and how often to check.
const LATE_SPACE: Duration = Duration::from_millis(500);
const SPACE_CHECK: Duration = Duration::from_millis(5);
/// How long the end of a run waits for the command that still uses an earlier file of the same name, and how
/// often it checks.
const COMMAND: Duration = Duration::from_secs(60);
const COMMAND_CHECK: Duration = Duration::from_millis(20);
/// The most free space that a wait for space after blocks that were held is over with, in bytes.
const RESUMED: u64 = 256 << 10;
/// How long blocks are held at most.
const HOLD: Duration = Duration::from_millis(20);

/// The only series, without a file per origin.
const ONLY: usize = 0;

pub(super) struct Files {
    directory: Arc<Directory>,
    names: Names,
    plan: Plan,
    hooks: Hooks,
    rotator: Rotator,
    series: Vec<Series>,
    /// With a file per origin.
    origins: Option<Origins>,
    /// Completed files of this run, the oldest first; empty unless they may be deleted or replaced.
    own: VecDeque<OwnFile>,
    /// Names without a number that this run has used.
    firsts: FirstNames,
    /// When the next interval starts.
    due: Option<Instant>,
    /// Intervals started.
    periods: u32,
    /// For rotation by packet times, with the time of the next packet.
    packet_clock: Option<PacketClock>,
    packet_time: u64,
    /// Packets after the last file, since they were last taken.
    after_last: u64,
    /// The last file of another process, which completes it.
    reserved: Option<PathBuf>,
    /// Whether another process may use the name that its time gives a file.
    is_late: bool,
    /// The name that a complete file cannot have yet: a command still uses the earlier file of that name.
    blocked_by: Option<PathBuf>,
    /// Blocks of which nothing more will be written.
    finished: Vec<HeldBlock>,
    direct: Direct,
    deleted: DeletedFiles,
}

/// A sequence of files with the same kind of frames.
struct Series {
    key: SeriesKey,
    /// Name with the time, and number, of the current file or else the last one.
    timed: OsString,
    number: u32,
    begun: bool,
    /// Interval of its packets, for rotation by packet times.
    period: Option<u64>,
    part: Option<CapturePart>,
}

impl Series {
    /// A series without a file.
    fn fresh(key: SeriesKey) -> Self {
        Self { key, timed: OsString::new(), number: 0, begun: false, period: None, part: None }
    }
}

/// Names without a number that this run has used. If a name is taken, this distinguishes a file of this run
/// (the same hour on another day, an origin that lost its file and got another) from a foreign one. Stored as
/// hashes, in at most 1 MiB: more than the seconds of a day. Beyond that, any name may be ours; then a
/// foreign name gets a number appended, and no file is replaced.
#[derive(Default)]
struct FirstNames {
    hashes: HashSet<u64>,
    is_full: bool,
}

/// The most names that are remembered.
const FIRSTS: usize = 1 << 17;

impl FirstNames {
    fn remember(&mut self, path: &Path) {
        if self.hashes.len() < FIRSTS {
            self.hashes.insert(hash(path));
        } else {
            self.is_full = true;
        }
    }

    fn may_have(&self, path: &Path) -> bool {
        self.is_full || self.hashes.contains(&hash(path))
    }
}

fn hash(path: &Path) -> u64 {
    seeded_hash(0, &path.as_os_str().as_encoded_bytes())
}

/// State at the end of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunEnd {
    pub(super) lost_in_kernel: u64,
    /// The capture has failed or waits.
    pub(super) has_failed: bool,
}

/// An error, and the file it is about.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) error: io::Error,
    /// Bytes that did not fit, if space was missing; otherwise 0.
    pub(super) lacks: u64,
}

impl Fault {
    pub(super) fn new(what: String, error: io::Error) -> Self {
        Self { what, error, lacks: 0 }
    }

    fn of(path: &Path, error: io::Error) -> Self {
        Self::new(crate::escape::path(path).to_string(), error)
    }

    /// Whether the error may end without our action.
    fn may_pass(&self) -> bool {
        may_pass(&self.error) || self.error.kind() == io::ErrorKind::ResourceBusy
    }
}

impl From<HiddenFileError> for Fault {
    fn from(error: HiddenFileError) -> Self {
        let (path, error) = match error {
            HiddenFileError::Exists { path } => {
                let message = "already exists and is not of this run: it is kept, and the capture ends";
                (path, io::Error::new(io::ErrorKind::AlreadyExists, message))
            }
            HiddenFileError::NoName { path } => (path, io::ErrorKind::InvalidFilename.into()),
            HiddenFileError::Directory { path, source } | HiddenFileError::Create { path, source } => {
                (path, source)
            }
        };
        Self::of(&path, error)
    }
}

impl Files {
    /// Opens the directory, and the first file, with `encoder`, if its name does not depend on packets.
    pub(super) fn create(
        names: Names,
        plan: Plan,
        hooks: Hooks,
        encoder: Option<Encoder>,
    ) -> Result<Self, HiddenFileError> {
        let directory = HiddenFile::open_directory(names.path())?;
        let packet_clock = PacketClock::new(&plan.rotation);
        let due = plan.rotation.every.filter(|_| packet_clock.is_none()).map(|every| Instant::now() + every);
        let origins = plan.origins.map(Origins::new);
        let mut files = Self {
            directory,
            origins,
            names,
            plan,
            hooks,
            rotator: Rotator::default(),
            series: Vec::new(),
            own: VecDeque::new(),
            firsts: FirstNames::default(),
            due,
            periods: 0,
            packet_clock,
            packet_time: 0,
            after_last: 0,
            reserved: None,
            is_late: false,
            blocked_by: None,
            finished: Vec::new(),
            direct: Direct::default(),
            deleted: DeletedFiles::default(),
        };
        if files.is_named_by_packets() || (files.plan.follows && files.origins.is_none()) {
            files.series.push(Series::fresh(SeriesKey::All));
        } else if files.origins.is_none() {
            let timed = files.names.at(&Zoned::now()).unwrap_or_default();
            // A ring checks all its names now, and not when they are used.
            for number in (1..files.plan.rotation.ring().unwrap_or(1)).rev() {
                let path = files.names.path_of(&timed, SeriesKey::All, number);
                if files
                    .is_taken(&path)
                    .map_err(|source| HiddenFileError::Create { path: path.clone(), source })?
                {
                    return Err(HiddenFileError::Exists { path });
                }
            }
            let path = files.names.path_of(&timed, SeriesKey::All, 0);
            let file = HiddenFile::create_in(&files.directory, &path)?;
            let part = files.part(file, encoder);
            let series = Series { timed, begun: true, part: Some(part), ..Series::fresh(SeriesKey::All) };
            files.series.push(series);
            files.note(&mut files.rotator.turns());
        }
        Ok(files)
    }

    /// Notes how the files stand, for another process.
    fn note(&self, turns: &mut Turns) {
        let Some(Series { timed, number, begun, part, .. }) = self.series.first() else { return };
        let file = part.as_ref().and_then(CapturePart::file);
        let open = file.and_then(|file| {
            let id = FileId::of(file.file()).ok()?;
            Some(OwnFile { id, path: file.path().to_owned() })
        });
        turns.state = CaptureState {
            named: begun.then(|| (timed.clone(), *number)),
            open,
            own: self.own.iter().cloned().collect(),
            periods: self.periods,
            due: None,
        };
        turns.due = self.due;
    }

    /// Takes over where another process has left its files.
    fn follow(&mut self, left: CaptureState) {
        self.own.extend(left.files());
        let CaptureState { named, open, own: _, periods, due } = left;
        if let Some(((timed, number), series)) = named.zip(self.series.first_mut()) {
            (series.timed, series.number, series.begun) = (timed, number, true);
        }
        self.reserved = open.map(|file| file.path);
        // Those of the run's other processes are not known.
        self.firsts.is_full = true;
        self.periods = periods;
        self.due = due.map(|due| Instant::now() + due);
    }

    fn part(&self, file: HiddenFile, encoder: Option<Encoder>) -> CapturePart {
        let part = CapturePart::new(PartOutput::File(file), encoder, self.plan.max_interfaces);
        // With a file per origin blocks are sorted first, and not written as they are.
        if self.origins.is_some() { part } else { part.holding(self.plan.most_held) }
    }

    /// Whether the first file cannot be named before there is a packet.
    fn is_named_by_packets(&self) -> bool {
        self.packet_clock.is_some() && self.origins.is_none() && self.names.hold_a_time()
    }

    /// Packets after the last file since the last call.
    pub(super) fn take_after_last(&mut self) -> u64 {
        std::mem::take(&mut self.after_last)
    }

    /// The capture, as the user named it.
    pub(super) fn name(&self) -> String {
        crate::escape::path(self.names.path()).to_string()
    }

    pub(super) fn rotator(&self) -> &Rotator {
        &self.rotator
    }

    /// The hidden name of the first file.
    pub(super) fn hidden_path(&self) -> Option<PathBuf> {
        self.series.first()?.part.as_ref()?.file().map(HiddenFile::hidden_path)
    }

    /// The origins that have files, with a file per origin.
    pub(super) fn origins(&self) -> Option<&Origins> {
        self.origins.as_ref()
    }

    pub(super) fn begin(&mut self, capture: &CaptureFormat) -> Result<(), Fault> {
        let Some(part) = self.series.first_mut().and_then(|series| series.part.as_mut()) else {
            return Ok(());
        };
        part.begin(capture).map_err(|error| Fault::new(part.name(), error))
    }

    /// Whether to wait for space.
    fn waits(&self) -> bool {
        self.plan.min_free.when_full != WhenFull::Stop
    }

    /// Whether the capture waits after a fault; otherwise it ends.
    pub(super) fn waits_after(&self, fault: &Fault) -> bool {
        fault.may_pass() && (self.waits() || self.blocked_by.is_some())
    }

    /// Whether a wait is over: `lacks` bytes are free, or, with 0, a file could be opened. Writes only
    /// headers that the files need anyway.
    pub(super) fn has_room(&mut self, capture: &CaptureFormat, lacks: u64) -> Result<bool, Fault> {
        if self.origins.is_none() && !self.is_named_by_packets() {
            self.open(0, capture)?;
        }
        for part in self.series.iter_mut().filter_map(|series| series.part.as_mut()) {
            part.begin(capture).map_err(|error| Fault::new(part.name(), error))?;
        }
        if self.blocked_by.as_ref().is_some_and(|path| self.is_kept(path)) {
            return Ok(false);
        }
        if lacks == 0 {
            // With a file per origin, the next frame tries again to open its file.
            return Ok(self.origins.is_none() && self.series.iter().any(|series| series.part.is_some()));
        }
        let _claim = self.keep_min_free(lacks)?;
        Ok(self.available()? >= lacks)
    }

    fn available(&self) -> Result<u64, Fault> {
        self.directory.available().map_err(|error| Fault::of(self.names.path(), error))
    }

    /// Rotates all files if it is due or requested.
    pub(super) fn rotate_if_due(&mut self, capture: &CaptureFormat, losses: &Losses) -> Result<(), Fault> {
        let rotator = self.rotator.clone();
        let mut noted = rotator.turns();
        if noted.is_over || (self.plan.follows && self.series.iter().all(|series| !series.begun)) {
            return Ok(());
        }
        let mut turns = self.rotator.take_request();
        if let (Some(due), Some(every)) = (self.due, self.plan.rotation.every)
            && Instant::now() >= due
        {
            self.periods += 1;
            if Some(self.periods) == self.plan.rotation.periods() {
                // The last file stays in use until the run has ended, so that no frame is lost.
                self.due = None;
                if let Some(hook) = self.hooks.on_last.take() {
                    hook();
                }
            } else {
                let now = Instant::now();
                let mut next = due + every;
                while next <= now {
                    next += every;
                }
                self.due = Some(next);
                turns = true;
            }
        }
        if !turns {
            return Ok(());
        }
        // A file per origin, or one named by a packet's time, is opened with its next frame.
        let opens = self.origins.is_none() && !self.is_named_by_packets();
        let turned = (0..self.series.len()).try_for_each(|series| {
            self.close(series, capture, losses, None)?;
            if opens { self.open(series, capture) } else { Ok(()) }
        });
        self.note(&mut noted);
        if turned.is_err() {
            // Still due at the next attempt.
            self.rotator.rotate();
        }
        turned
    }

    /// Writes packets of a series, from a block with these origins, to one or more files. Returns how many
    /// are written: all of them unless there is a fault too.
    pub(super) fn packets(
        &mut self,
        series: usize,
        capture: &CaptureFormat,
        bytes: &mut [u8],
        packets: &[PacketEnd],
        origins: &[OriginKey],
        losses: &Losses,
    ) -> (usize, Result<(), Fault>) {
        let mut done = 0;
        let mut write_all = || -> Result<(), Fault> {
            let begins = packets.last().map_or(0, |last| last.end - bytes.len());
            while done < packets.len() {
                let from = packets[..done].last().map_or(begins, |last| last.end);
                let rest = &mut bytes[from - begins..];
                let before = self.series[series].period;
                match self.turn_by_packets(series, capture.format.time(rest)) {
                    Turn::Stay => {}
                    Turn::Next => {
                        if let Err(fault) = self.close(series, capture, losses, None) {
                            // This packet is processed again.
                            self.series[series].period = before;
                            return Err(fault);
                        }
                    }
                    Turn::Over => {
                        self.after_last += (packets.len() - done) as u64;
                        return Ok(());
                    }
                }
                self.begin_file(series, capture)?;
                let in_time = self.in_time(series, capture, from, rest, &packets[done..]);
                let mut room = self.room(series, from, &packets[done..done + in_time]);
                if room == 0 {
                    if self.turn(series, capture, losses)? {
                        continue;
                    }
                    room = in_time;
                }
                let these = &mut rest[..packets[done + room - 1].end - from];
                let _claim = self.keep_min_free(these.len() as u64)?;
                let Some(part) = &mut self.series[series].part else { continue };
                let (written, result) =
                    part.packets(capture, these, &packets[done..done + room], origins, || false);
                let what = part.name();
                done += written;
                if let Err(error) = result {
                    let lacks = these.len() as u64;
                    self.make_room_after(Fault { what, error, lacks })?;
                }
            }
            Ok(())
        };
        let result = write_all();
        (done, result)
    }

    /// Writes a block of the only series, now or, together with others, later: see
    /// [`take_finished`](Self::take_finished).
    pub(super) fn block(
        &mut self,
        capture: &CaptureFormat,
        mut block: HeldBlock,
        losses: &Losses,
    ) -> Result<(), Fault> {
        if let Some(part) = self.part_to_hold(&mut block) {
            part.hold(capture, block);
            let is_due =
                part.held().is_some_and(|held| held.is_many() || held.since() + HOLD <= Instant::now());
            return self.write_held(ONLY, capture, is_due);
        }
        let result = self.write_held(ONLY, capture, true).and_then(|()| {
            let (bytes, origins) = block.block.parts();
            let (written, result) = self.packets(ONLY, capture, bytes, &block.packets, origins, losses);
            block.written = written;
            result
        });
        self.finished.push(block);
        result
    }

    /// The file that all of a block can be held for.
    fn part_to_hold(&mut self, block: &mut HeldBlock) -> Option<&mut CapturePart> {
        let size = self.plan.rotation.size.unwrap_or(u64::MAX);
        let part = self.series.get_mut(ONLY)?.part.as_mut().filter(|_| self.packet_clock.is_none())?;
        let (bytes, origins) = block.block.parts();
        let before = part.len() + part.held().map_or(0, HeldBlocks::bytes);
        (part.may_hold(origins) && before + bytes.len() as u64 <= size).then_some(part)
    }

    /// Writes the whole units of the blocks held for a series, or all; deletes files as long as that makes
    /// space. After a fault none is held.
    fn write_held(&mut self, index: usize, capture: &CaptureFormat, all: bool) -> Result<(), Fault> {
        let mut result = Ok(());
        while let Some(part) = self.series.get_mut(index).and_then(|series| series.part.as_mut())
            && let Some(lacks) = part.held().map(HeldBlocks::bytes)
        {
            let claimed = self.keep_min_free(lacks);
            let Some(part) = self.series[index].part.as_mut() else { break };
            result = match claimed {
                Ok(claim) => {
                    let Err(error) = part.write_held(capture, all, &mut self.direct) else { break };
                    drop(claim);
                    let what = part.name();
                    self.make_room_after(Fault { what, error, lacks: lacks.min(RESUMED) })
                }
                Err(fault) => Err(fault),
            };
            if result.is_err() {
                break;
            }
        }
        if let Some(part) = self.series.get_mut(index).and_then(|series| series.part.as_mut()) {
            if result.is_err() {
                part.give_up_held(capture, &mut self.direct);
            }
            part.take_finished(&mut self.finished);
        }
        result
    }

    /// Writes all blocks held.
    pub(super) fn write_all_held(&mut self, capture: &CaptureFormat) -> Result<(), Fault> {
        self.write_held(ONLY, capture, true)
    }

    /// When to write the blocks held, if any.
    pub(super) fn held_until(&self) -> Option<Instant> {
        Some(self.series.get(ONLY)?.part.as_ref()?.held()?.since() + HOLD)
    }

    /// Packets written of blocks of which nothing more will be.
    pub(super) fn finished_packets(&self) -> u64 {
        self.finished.iter().map(|block| block.written as u64).sum()
    }

    /// A block of which nothing more will be written.
    pub(super) fn take_finished(&mut self) -> Option<HeldBlock> {
        self.finished.pop()
    }

    /// Whether a packet with this time belongs to the current or the next file of a series.
    fn turn_by_packets(&mut self, series: usize, time: u64) -> Turn {
        let Some(clock) = &mut self.packet_clock else { return Turn::Stay };
        self.packet_time = time;
        let turn = clock.turn(&mut self.series[series].period, time);
        if turn == Turn::Over
            && let Some(hook) = self.hooks.on_last.take()
        {
            hook();
        }
        turn
    }

    /// How many of these packets are in the interval of the current file of a series. The first begins at
    /// `from`, and `bytes` begins with it.
    fn in_time(
        &self,
        series: usize,
        capture: &CaptureFormat,
        from: usize,
        bytes: &[u8],
        packets: &[PacketEnd],
    ) -> usize {
        let (Some(clock), Some(period)) = (&self.packet_clock, self.series[series].period) else {
            return packets.len();
        };
        let mut start = 0;
        let in_time = packets.iter().take_while(|packet| {
            let time = capture.format.time(&bytes[start..]);
            start = packet.end - from;
            clock.period(time) <= period
        });
        in_time.count()
    }

    /// How many of these packets, the first of which begins at `from`, fit into the current file of a series.
    fn room(&self, series: usize, from: usize, packets: &[PacketEnd]) -> usize {
        let Some(part) = self.series[series].part.as_ref().filter(|part| !part.takes_no_more()) else {
            return 0;
        };
        let Some(size) = self.plan.rotation.size else { return packets.len() };
        let mut before = from;
        let fitting = packets.iter().take_while(|packet| {
            let fits = part.len() + (before - from) as u64 <= size;
            before = packet.end;
            fits
        });
        // The header may exceed the size already: a file has at least one packet.
        fitting.count().max(usize::from(part.frames() == 0))
    }

    /// Ensures that enough space is free after this many more bytes, which are written next.
    fn keep_min_free(&mut self, bytes: u64) -> Result<Claim, Fault> {
        let min_free = self.plan.min_free;
        if min_free.bytes == 0 {
            return Ok(self.plan.free_space.claim(0));
        }
        loop {
            let claim = self.plan.free_space.claim(bytes);
            let free = self.available()?;
            if free >= min_free.bytes.saturating_add(claim.of_all()) {
                return Ok(claim);
            }
            drop(claim);
            if self.deleted.wait() {
                continue;
            }
            let error = min_free.error(free, self.own.len());
            self.make_room_after(Fault { lacks: bytes, ..Fault::of(self.names.path(), error) })?;
        }
    }

    /// Waits for the space of deleted files, or deletes the oldest file that may be deleted, if that may
    /// remove the fault; otherwise returns the fault.
    fn make_room_after(&mut self, fault: Fault) -> Result<(), Fault> {
        if !is_out_of_space(&fault.error) {
            return Err(fault);
        }
        if self.deleted.wait() {
            return Ok(());
        }
        if !self.plan.min_free.deletes() {
            return Err(fault);
        }
        let Some(at) = self.own.iter().position(|own| !self.is_kept(&own.path)) else { return Err(fault) };
        let before = self.available()?;
        let Some(oldest) = self.own.remove(at) else { return Err(fault) };
        tracing::info!(file = %crate::escape::path(&oldest.path), "deleted: free space is below the minimum");
        let deleted = self.delete(&oldest);
        self.deleted.wait();
        deleted.and_then(|()| self.wait_for_space(before)).map_err(|error| Fault::of(&oldest.path, error))
    }

    /// Whether a completed file is still in use under its name.
    fn is_kept(&self, path: &Path) -> bool {
        self.hooks.keep_while.as_ref().is_some_and(|keeps| keeps(path))
    }

    /// Waits briefly until more space is free than before: some file systems free the space of a deleted file
    /// later, and a file that is open elsewhere frees none.
    fn wait_for_space(&self, before: u64) -> io::Result<()> {
        let start = Instant::now();
        while self.directory.available()? <= before && start.elapsed() < LATE_SPACE {
            thread::sleep(SPACE_CHECK);
        }
        Ok(())
    }

    /// The series of each origin of a block, with its number of packets in it. Completes the file of an
    /// origin that loses its series.
    pub(super) fn find_series(
        &mut self,
        capture: &CaptureFormat,
        origins: &[OriginKey],
        packets: &[usize],
        series_of: &mut Vec<usize>,
        losses: &Losses,
    ) -> Result<(), Fault> {
        /// The origin has no series.
        const UNKNOWN: usize = usize::MAX;
        series_of.clear();
        let Some(known) = &mut self.origins else { return Ok(()) };
        known.begin_block();
        series_of.extend(origins.iter().map(|origin| known.get(*origin).unwrap_or(UNKNOWN)));
        for ((series, &origin), &packets) in series_of.iter_mut().zip(origins).zip(packets) {
            if *series == UNKNOWN
                && let Some(known) = &mut self.origins
            {
                *series = known.find(origin, packets);
            }
            let key = if *series == OTHERS { SeriesKey::Other } else { SeriesKey::Origin(origin) };
            if self.series.len() <= *series {
                self.series.resize_with(*series + 1, || Series::fresh(key));
            }
            if self.series[*series].key != key {
                // Taken from another origin.
                self.close(*series, capture, losses, None)?;
                self.series[*series] = Series::fresh(key);
            }
        }
        Ok(())
    }

    /// Opens a file of a series if none is open: the first, or one after a fault.
    fn begin_file(&mut self, index: usize, capture: &CaptureFormat) -> Result<(), Fault> {
        if self.series[index].part.is_some() {
            return Ok(());
        }
        if let Some(left) = self.rotator.take_left() {
            self.follow(left);
        }
        let rotator = self.rotator.clone();
        let mut noted = rotator.turns();
        self.is_late = noted.is_over;
        let opened = self.open(index, capture);
        self.note(&mut noted);
        opened
    }

    /// Completes the current file of a series and begins the next. Returns `false`, and does nothing, if
    /// another process has the next one.
    fn turn(&mut self, index: usize, capture: &CaptureFormat, losses: &Losses) -> Result<bool, Fault> {
        let rotator = self.rotator.clone();
        let mut noted = rotator.turns();
        if noted.is_over {
            return Ok(false);
        }
        let turned = self.close(index, capture, losses, None).and_then(|()| self.open(index, capture));
        self.note(&mut noted);
        turned.map(|()| true)
    }

    /// Opens a file of a series if none is open; deletes others as long as that makes space for it.
    fn open(&mut self, index: usize, capture: &CaptureFormat) -> Result<(), Fault> {
        while let Err(fault) = self.try_to_open(index, capture) {
            self.make_room_after(fault)?;
        }
        Ok(())
    }

    fn try_to_open(&mut self, index: usize, capture: &CaptureFormat) -> Result<(), Fault> {
        if self.series[index].part.is_some() {
            return Ok(());
        }
        let unnamed = |error: NameError| Fault::of(self.names.path(), io::Error::other(error.to_string()));
        let timed = self.names.at(&self.now()).map_err(unnamed)?;
        let Series { key, begun, period, number, timed: ref before, .. } = self.series[index];
        let again = begun && *before == timed;
        let ring = self.plan.rotation.ring();
        let first = u32::from(self.is_late);
        let mut next = if !again { first } else { ring.map_or(number + 1, |files| (number + 1) % files) };
        let path_of = |number| self.names.path_of(&timed, key, number);
        let taken = |path: &Path| {
            let taken = self.is_taken(path).map_err(|error| Fault::of(path, error));
            taken.map(|taken| taken || self.reserved.as_deref() == Some(path))
        };
        let ours = |path: &Path| self.firsts.may_have(path);
        // Without a ring, a log rotator may have moved files away, and other files may have appeared. Names
        // may also repeat: an hour on another day, or a clock that was set back.
        let by_free_number =
            if again { self.plan.rotation.size.is_none() } else { ring.is_none() && ours(&path_of(next)) };
        if by_free_number {
            if again && self.plan.rotation.every.is_none() && !taken(&path_of(0))? {
                next = 0;
            }
            while taken(&path_of(next))? {
                next += 1;
            }
        }
        let path = path_of(next);
        // If the earlier file is in use, it is checked again when this one is complete.
        let file = if ring.is_some() && !self.free_name(&path)? {
            HiddenFile::create_beside(&self.directory, &path)?
        } else {
            HiddenFile::create_in(&self.directory, &path)?
        };
        let encoder = Encoder::new(self.names.compression()).map_err(|error| Fault::of(&path, error))?;
        let mut part = self.part(file, encoder);
        let result = part.begin(capture);
        let what = part.name();
        self.series[index] = Series { key, timed, number: next, begun: true, period, part: Some(part) };
        result.map_err(|error| Fault::new(what, error))
    }

    /// Deletes the file of this run with a name that another file needs. Returns false if it is in use.
    fn free_name(&mut self, path: &Path) -> Result<bool, Fault> {
        let Some(at) = self.own.iter().position(|own| own.path == path) else { return Ok(true) };
        if self.is_kept(path) {
            return Ok(false);
        }
        let old = self.own.remove(at);
        old.map_or(Ok(()), |old| self.delete(&old)).map_err(|error| Fault::of(path, error))?;
        Ok(true)
    }

    /// The same for a complete file; at the end of the run it waits until the earlier one is not in use.
    fn free_name_now(&mut self, path: &Path, is_end: bool) -> Result<(), Fault> {
        let start = Instant::now();
        self.blocked_by = None;
        while !self.free_name(path)? {
            if !is_end || start.elapsed() >= COMMAND {
                self.blocked_by = Some(path.to_owned());
                let message = "the command for the earlier file of this name is still running";
                return Err(Fault::of(path, io::Error::new(io::ErrorKind::ResourceBusy, message)));
            }
            thread::sleep(COMMAND_CHECK);
        }
        Ok(())
    }

    /// The time in the name of a file that is opened now.
    fn now(&self) -> Zoned {
        let by_packets = self.packet_clock.as_ref().filter(|_| self.packet_time > 0);
        let time = by_packets.and_then(|_| Timestamp::from_nanosecond(i128::from(self.packet_time)).ok());
        time.map_or_else(Zoned::now, |time| time.to_zoned(TimeZone::system()))
    }

    /// Completes the file of a series, if one is open, after the blocks held for it.
    fn close(
        &mut self,
        index: usize,
        capture: &CaptureFormat,
        losses: &Losses,
        end: Option<RunEnd>,
    ) -> Result<(), Fault> {
        let written = self.write_held(index, capture, true);
        if written.as_ref().is_err_and(|fault| end.is_none() && self.waits_after(fault)) {
            return written;
        }
        written.and(self.close_part(index, capture, losses, end))
    }

    /// Completes the file of a series, if one is open; deletes others as long as that makes space for it. If
    /// that may work later, the file is left open; at the end of the run it is completed without what does
    /// not fit.
    fn close_part(
        &mut self,
        index: usize,
        capture: &CaptureFormat,
        losses: &Losses,
        end: Option<RunEnd>,
    ) -> Result<(), Fault> {
        while let Err(fault) = self.try_to_close(index, capture, losses, end) {
            if let Err(fault) = self.make_room_after(fault) {
                if end.is_none() && self.waits_after(&fault) {
                    return Err(fault);
                }
                let completed = self.close_without_statistics(index, end);
                // After a fault the statistics may not fit either.
                let is_known = end.is_some_and(|end| end.has_failed);
                return completed.and(if is_known { Ok(()) } else { Err(fault) });
            }
        }
        Ok(())
    }

    /// On an error nothing has changed.
    fn try_to_close(
        &mut self,
        index: usize,
        capture: &CaptureFormat,
        losses: &Losses,
        end: Option<RunEnd>,
    ) -> Result<(), Fault> {
        let Series { key, number, ref mut part, .. } = self.series[index];
        let Some(mut part) = part.take() else { return Ok(()) };
        let result = self
            .end_part(&mut part, key, capture, losses, end)
            .and_then(|()| self.publish(&part, number, end));
        if result.is_err() {
            self.series[index].part = Some(part);
        }
        result
    }

    fn close_without_statistics(&mut self, index: usize, end: Option<RunEnd>) -> Result<(), Fault> {
        let Series { number, ref mut part, .. } = self.series[index];
        let Some(mut part) = part.take() else { return Ok(()) };
        part.end_encoding()
            .map_err(|error| Fault::new(part.name(), error))
            .and(self.publish(&part, number, end))
    }

    /// Writes the end of a file once its name is free.
    fn end_part(
        &mut self,
        part: &mut CapturePart,
        key: SeriesKey,
        capture: &CaptureFormat,
        losses: &Losses,
        end: Option<RunEnd>,
    ) -> Result<(), Fault> {
        if let Some(path) = part.file().filter(|_| !part.is_void()).map(|file| file.path().to_owned()) {
            self.free_name_now(&path, end.is_some())?;
        }
        let lost = self.lost(key, losses);
        let ended = part.end(capture, &lost, end.map(|end| end.lost_in_kernel));
        if !part.has_statistics() {
            // They go to the statistics of the next file.
            losses.put_back(lost);
        }
        ended.map_err(|error| Fault { lacks: 1, ..Fault::new(part.name(), error) })
    }

    /// Renames a file to its final name.
    fn publish(&mut self, part: &CapturePart, number: u32, end: Option<RunEnd>) -> Result<(), Fault> {
        let Some(file) = part.file() else { return Ok(()) };
        let published = match end {
            _ if part.is_void() => file.remove(),
            Some(_) => file.complete(),
            // Waiting for the disk during a run would cost frames.
            None => file.publish(),
        };
        let completed =
            published.and_then(|()| if part.is_void() { Ok(()) } else { self.completed(file, number == 0) });
        completed.map_err(|error| Fault::new(part.name(), error))
    }

    /// Losses for the statistics of a series.
    fn lost(&self, key: SeriesKey, losses: &Losses) -> Lost {
        let origins = self.origins.as_ref();
        match key {
            SeriesKey::All => Lost::All(losses.take()),
            SeriesKey::Origin(origin) => Lost::Of(origin, losses.take_of(origin)),
            SeriesKey::Other => {
                Lost::All(losses.take_others(|origin| origins.is_some_and(|known| known.has_file(origin))))
            }
        }
    }

    fn completed(&mut self, file: &HiddenFile, is_first: bool) -> io::Result<()> {
        let path = file.path().to_owned();
        let ring = self.plan.rotation.ring().is_some();
        if ring || self.plan.min_free.deletes() {
            self.own.push_back(OwnFile { id: FileId::of(file.file())?, path: path.clone() });
        }
        if is_first && !ring {
            self.firsts.remember(&path);
        }
        self.rotator.add(&path);
        if let Some(hook) = &mut self.hooks.on_file {
            hook(&path);
        }
        Ok(())
    }

    /// Completes all files. Returns the first fault.
    pub(super) fn complete(
        &mut self,
        capture: &CaptureFormat,
        losses: &Losses,
        end: RunEnd,
    ) -> Result<(), Fault> {
        let mut result = Ok(());
        // Without packets there is one empty file.
        if self.is_named_by_packets()
            && !end.has_failed
            && self.series.first().is_some_and(|series| !series.begun)
        {
            result = self.open(0, capture);
        }
        for series in 0..self.series.len() {
            let closed = self.close(series, capture, losses, Some(end));
            result = result.and(closed);
        }
        result
    }

    /// Keeps files with packets under their hidden names and removes the others.
    pub(super) fn abandon(&self) -> Result<(), SinkError> {
        for part in self.series.iter().filter_map(|series| series.part.as_ref()) {
            let Some(hidden) = part.file() else { continue };
            if part.frames() == 0 {
                let what = || crate::escape::path(&hidden.hidden_path()).to_string();
                hidden.remove().map_err(|source| SinkError::Io { what: what(), source })?;
                continue;
            }
            tracing::warn!(
                file = %crate::escape::path(&hidden.hidden_path()),
                frames = part.frames(),
                "the capture was not stopped cleanly: readable, but neither complete nor renamed"
            );
        }
        Ok(())
    }

    fn is_taken(&self, path: &Path) -> io::Result<bool> {
        Ok(self.directory.holds(path.file_name().unwrap_or_default())?.is_some())
    }

    /// Deletes a file of this run, unless it is gone or its name belongs to another file.
    fn delete(&mut self, own: &OwnFile) -> io::Result<()> {
        let name = own.path.file_name().unwrap_or_default();
        if let Some(file) = self.directory.remove_of(name, own.id)? {
            self.deleted.push(file);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capture with this many completed files.
    fn completed(rotation: Rotation, min_free: MinFree, files: u32) -> Files {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let names = Names::new(&path, &rotation).unwrap();
        let plan = Plan {
            rotation,
            min_free,
            free_space: FreeSpace::default(),
            origins: Some(4),
            max_interfaces: 1,
            most_held: 0,
            follows: false,
        };
        let mut capture = Files::create(names, plan, Hooks::default(), None).unwrap();
        for number in 0..files {
            let file = HiddenFile::create(&directory.path().join(format!("x{number}"))).unwrap();
            file.publish().unwrap();
            capture.completed(&file, number == 0).unwrap();
        }
        capture
    }

    #[test]
    fn only_completed_files_that_may_be_deleted_or_replaced_are_remembered() {
        let by_size = Rotation { size: Some(1), ..Rotation::default() };
        let none = MinFree::default();
        let stop = MinFree { bytes: 1, when_full: WhenFull::Stop };
        let delete = MinFree { when_full: WhenFull::Delete, ..none };
        for (rotation, min_free, known) in [
            (by_size, none, 0),
            (by_size, stop, 0),
            (by_size, delete, 50),
            (Rotation { files: Some(100), ..by_size }, none, 50),
            (Rotation { every: Some(Duration::from_secs(60)), ..Rotation::default() }, none, 0),
        ] {
            let capture = completed(rotation, min_free, 50);
            assert_eq!(capture.own.len(), known, "{rotation:?} {min_free:?}");
            assert!(capture.firsts.hashes.len() <= 1);
            assert_eq!(capture.rotator.completed().files, 50);
        }
    }

    #[test]
    fn names_are_remembered_in_bounds_and_beyond_that_any_may_be_ours() {
        let mut firsts = FirstNames::default();
        let path = |number: usize| PathBuf::from(format!("out-{number}"));
        for number in 0..FIRSTS {
            assert!(!firsts.is_full);
            firsts.remember(&path(number));
        }
        assert!(firsts.may_have(&path(7)) && !firsts.may_have(&path(FIRSTS)));
        (0..1000).for_each(|number| firsts.remember(&path(FIRSTS + number)));
        assert!(firsts.hashes.len() <= FIRSTS && firsts.may_have(&path(FIRSTS)));
    }
}
