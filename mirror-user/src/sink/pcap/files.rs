//! The files of a capture: which is written to, when the next begins, what becomes of the earlier ones.

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
    losses::Losses,
    min_free::{MinFree, WhenFull},
    names::{NameError, Names, SeriesKey},
    origins::{OTHERS, Origins},
    part::{CaptureFormat, CapturePart, Lost, PacketEnd, PartOutput},
    rotation::{PacketClock, Rotation, Turn},
    rotator::{Hooks, Rotator},
};
use crate::{
    flow::seeded_hash,
    hidden_file::{Directory, FileId, HiddenFile, HiddenFileError},
    sink::{
        SinkError,
        handoff::{is_want, is_want_of_space},
        origin::OriginKey,
    },
};

/// How a capture is spread over files.
pub(super) struct Plan {
    pub(super) rotation: Rotation,
    pub(super) min_free: MinFree,
    /// With a file for each origin: how many of them have one of their own.
    pub(super) origins: Option<usize>,
    /// Named interfaces that a pcapng file has at most.
    pub(super) max_interfaces: usize,
}

/// How long a deleted file's space is waited for, and how often it is looked for.
const LATE_SPACE: Duration = Duration::from_millis(500);
const SPACE_LOOK: Duration = Duration::from_millis(5);
/// How long the end of a run waits for the command of a file whose name another is to have, and how often it
/// looks.
const COMMAND: Duration = Duration::from_secs(60);
const COMMAND_LOOK: Duration = Duration::from_millis(20);

pub(super) struct Files {
    directory: Arc<Directory>,
    names: Names,
    plan: Plan,
    hooks: Hooks,
    rotator: Rotator,
    series: Vec<Series>,
    /// With a file for each origin.
    origins: Option<Origins>,
    /// Files of this run under their final names, the oldest first: where they may be deleted or replaced.
    own: VecDeque<OwnFile>,
    /// First names of this run, where one may come again.
    firsts: FirstNames,
    /// When the next time begins.
    due: Option<Instant>,
    /// Times begun.
    periods: u32,
    /// By the times of packets instead, with the time of the one that is next.
    packet_clock: Option<PacketClock>,
    packet_time: u64,
    /// Packets after the last file since somebody asked.
    after_last: u64,
    /// The name that a complete file waits for, because a command still needs the earlier file of that name.
    blocked_by: Option<PathBuf>,
}

/// Files that follow each other.
struct Series {
    key: SeriesKey,
    /// Its name with the time in it, and its number: of the file that is written to, or of the last one.
    timed: OsString,
    number: u32,
    begun: bool,
    /// The period of its packets, by a packet clock.
    period: Option<u64>,
    part: Option<CapturePart>,
}

impl Series {
    /// Without a file so far.
    fn fresh(key: SeriesKey) -> Self {
        Self { key, timed: OsString::new(), number: 0, begun: false, period: None, part: None }
    }
}

/// A completed file, told from any other of its name.
struct OwnFile {
    path: PathBuf,
    id: FileId,
}

/// Names of files without a number behind, of which it is known whether this run gave them: such a name is
/// taken by one of ours, and not by somebody else's file, when an hour comes again on another day, or an
/// origin that had given up its file. By hash, in 1 MiB at most: more than seconds of a day. When there have
/// been more, every name may have been ours; that a number is put behind one that was not costs nothing, and
/// no file is replaced by it.
#[derive(Default)]
struct FirstNames {
    hashes: HashSet<u64>,
    has_forgotten: bool,
}

/// Names that are remembered.
const FIRSTS: usize = 1 << 17;

impl FirstNames {
    fn remember(&mut self, path: &Path) {
        if self.hashes.len() < FIRSTS {
            self.hashes.insert(hash(path));
        } else {
            self.has_forgotten = true;
        }
    }

    fn may_have(&self, path: &Path) -> bool {
        self.has_forgotten || self.hashes.contains(&hash(path))
    }
}

fn hash(path: &Path) -> u64 {
    seeded_hash(0, &path.as_os_str().as_encoded_bytes())
}

/// What is known when a run has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunEnd {
    pub(super) lost_in_kernel: u64,
    /// The capture had ended before, or waits.
    pub(super) has_failed: bool,
}

/// What went wrong, and with which file.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) error: io::Error,
    /// Bytes that there was no space for, where it was space.
    pub(super) lacks: u64,
}

impl Fault {
    pub(super) fn new(what: String, error: io::Error) -> Self {
        Self { what, error, lacks: 0 }
    }

    fn of(path: &Path, error: io::Error) -> Self {
        Self::new(crate::escape::path(path).to_string(), error)
    }

    /// Whether there may be later what is missing now.
    fn may_pass(&self) -> bool {
        is_want(&self.error) || self.error.kind() == io::ErrorKind::ResourceBusy
    }
}

impl From<HiddenFileError> for Fault {
    fn from(error: HiddenFileError) -> Self {
        let (path, error) = match error {
            HiddenFileError::Exists { path } => {
                let message =
                    "already exists, and is not of this run: it is left as it is, and the capture ends";
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
    /// Opens the directory, and the first file, written through `encoder`, where it is known whose frames it
    /// will hold.
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
            blocked_by: None,
        };
        if files.is_named_by_packets() {
            files.series.push(Series::fresh(SeriesKey::All));
        } else if files.origins.is_none() {
            let timed = files.names.at(&Zoned::now()).unwrap_or_default();
            // A ring finds out at once that a name is taken, and not when its turn comes.
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
            let part = CapturePart::new(PartOutput::File(file), encoder, files.plan.max_interfaces);
            let series = Series { timed, begun: true, part: Some(part), ..Series::fresh(SeriesKey::All) };
            files.series.push(series);
        }
        Ok(files)
    }

    /// Whether there is one series of files, whose first cannot be named before there is a packet.
    fn is_named_by_packets(&self) -> bool {
        self.packet_clock.is_some() && self.origins.is_none() && self.names.hold_a_time()
    }

    /// How many packets came after the last file, since this was last called.
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

    /// The name under which the first file is written.
    pub(super) fn hidden_path(&self) -> Option<PathBuf> {
        self.series.first()?.part.as_ref()?.file().map(HiddenFile::hidden_path)
    }

    /// With a file for each origin: which they are.
    pub(super) fn origins(&self) -> Option<&Origins> {
        self.origins.as_ref()
    }

    pub(super) fn begin(&mut self, capture: &CaptureFormat) -> Result<(), Fault> {
        let Some(part) = self.series.first_mut().and_then(|series| series.part.as_mut()) else {
            return Ok(());
        };
        part.begin(capture).map_err(|error| Fault::new(part.name(), error))
    }

    /// Whether more space is waited for, where there is not enough.
    fn waits(&self) -> bool {
        self.plan.min_free.when_full != WhenFull::Stop
    }

    /// Whether a fault is no end.
    pub(super) fn waits_after(&self, fault: &Fault) -> bool {
        fault.may_pass() && (self.waits() || self.blocked_by.is_some())
    }

    /// Whether what there was none of is there now: so many bytes, or else what it takes to have a file open.
    /// Nothing is written to find out but what belongs there anyway.
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
            // Whose file it is that could not be opened, its next frame shows.
            return Ok(self.origins.is_none() && self.series.iter().any(|series| series.part.is_some()));
        }
        self.keep_min_free(lacks)?;
        Ok(self.available()? >= lacks)
    }

    fn available(&self) -> Result<u64, Fault> {
        self.directory.available().map_err(|error| Fault::of(self.names.path(), error))
    }

    /// Rotates all if it is time to, or somebody asked.
    pub(super) fn rotate_if_due(&mut self, capture: &CaptureFormat, losses: &Losses) -> Result<(), Fault> {
        let mut turns = self.rotator.was_asked();
        if let (Some(due), Some(every)) = (self.due, self.plan.rotation.every)
            && Instant::now() >= due
        {
            self.periods += 1;
            if Some(self.periods) == self.plan.rotation.periods() {
                // The last file goes on until the run has ended, so that no frame falls between.
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
        // A file for an origin begins with its next frame, and so does one that is named by its frame's time.
        let opens = self.origins.is_none() && !self.is_named_by_packets();
        let turned = (0..self.series.len()).try_for_each(|series| {
            self.close(series, capture, losses, None)?;
            if opens { self.open(series, capture) } else { Ok(()) }
        });
        if turned.is_err() {
            // Where it is tried again, this is still to be done.
            self.rotator.rotate();
        }
        turned
    }

    /// Writes packets of a series, of a block with these origins, to as many files as they take. Gives how
    /// many are written, which is all of them unless there is a fault too.
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
                            // The packet is looked at again.
                            self.series[series].period = before;
                            return Err(fault);
                        }
                    }
                    Turn::Over => {
                        self.after_last += (packets.len() - done) as u64;
                        return Ok(());
                    }
                }
                self.open(series, capture)?;
                let in_time = self.in_time(series, capture, from, rest, &packets[done..]);
                let room = self.room(series, from, &packets[done..done + in_time]);
                if room == 0 {
                    self.close(series, capture, losses, None)?;
                    continue;
                }
                let these = &mut rest[..packets[done + room - 1].end - from];
                self.keep_min_free(these.len() as u64)?;
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

    /// Whether the next packet of a series, which has this time, belongs to its next file.
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

    /// How many of these packets, the first of which begins at `from` and is the first in `bytes`, are of the
    /// period of the file of a series.
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

    /// How many of these packets, the first of which begins at `from`, the file of a series still takes.
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
        // What stands before the first packet may be more than the size: a file holds one packet at least.
        fitting.count().max(usize::from(part.frames() == 0))
    }

    /// Sees to it that so many bytes more leave enough space.
    fn keep_min_free(&mut self, bytes: u64) -> Result<(), Fault> {
        let min_free = self.plan.min_free;
        if min_free.bytes == 0 {
            return Ok(());
        }
        loop {
            let free = self.available()?;
            if free >= min_free.bytes.saturating_add(bytes) {
                return Ok(());
            }
            let error = min_free.error(free, self.own.len());
            self.make_room_after(Fault { lacks: bytes, ..Fault::of(self.names.path(), error) })?;
        }
    }

    /// Deletes the oldest file that may be deleted, where that may help against a fault; else this fault is
    /// it.
    fn make_room_after(&mut self, fault: Fault) -> Result<(), Fault> {
        if !self.plan.min_free.deletes() || !is_want_of_space(&fault.error) {
            return Err(fault);
        }
        let Some(at) = self.own.iter().position(|own| !self.is_kept(&own.path)) else { return Err(fault) };
        let before = self.available()?;
        let Some(oldest) = self.own.remove(at) else { return Err(fault) };
        tracing::info!(file = %crate::escape::path(&oldest.path), "deleted: less space is free than wanted");
        self.delete(&oldest)
            .and_then(|()| self.wait_for_space(before))
            .map_err(|error| Fault::of(&oldest.path, error))
    }

    /// Whether a completed file is still needed under its name.
    fn is_kept(&self, path: &Path) -> bool {
        self.hooks.keep_while.as_ref().is_some_and(|keeps| keeps(path))
    }

    /// Waits a moment for more space to be free than there was: some file systems give a deleted file's back
    /// later, and one that somebody still reads has none to give.
    fn wait_for_space(&self, before: u64) -> io::Result<()> {
        let start = Instant::now();
        while self.directory.available()? <= before && start.elapsed() < LATE_SPACE {
            thread::sleep(SPACE_LOOK);
        }
        Ok(())
    }

    /// Which series each origin of a block has that has so many packets in it; what another gives up for it
    /// is completed.
    pub(super) fn find_series(
        &mut self,
        capture: &CaptureFormat,
        origins: &[OriginKey],
        packets: &[usize],
        series_of: &mut Vec<usize>,
        losses: &Losses,
    ) -> Result<(), Fault> {
        /// No series has it.
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
                // Given up by another.
                self.close(*series, capture, losses, None)?;
                self.series[*series] = Series::fresh(key);
            }
        }
        Ok(())
    }

    /// Begins a file of a series, if there is none; where there is no space for it, for as long as deleting
    /// others helps.
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
        let mut next = if !again { 0 } else { ring.map_or(number + 1, |files| (number + 1) % files) };
        let path_of = |number| self.names.path_of(&timed, key, number);
        let taken = |path: &Path| self.is_taken(path).map_err(|error| Fault::of(path, error));
        let ours = |path: &Path| self.firsts.may_have(path);
        // Where nobody counts files but us, a log rotator may have moved some away, and others may have come;
        // and a name may come round again: of an hour on another day, or of a clock that was set back.
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
        // Where it has to stay for now, it is looked at again when this one is complete.
        let file = if ring.is_some() && !self.free_name(&path)? {
            HiddenFile::create_beside(&self.directory, &path)?
        } else {
            HiddenFile::create_in(&self.directory, &path)?
        };
        let encoder = Encoder::new(self.names.compression()).map_err(|error| Fault::of(&path, error))?;
        let mut part = CapturePart::new(PartOutput::File(file), encoder, self.plan.max_interfaces);
        let result = part.begin(capture);
        let what = part.name();
        self.series[index] = Series { key, timed, number: next, begun: true, period, part: Some(part) };
        result.map_err(|error| Fault::new(what, error))
    }

    /// Deletes the file of this run that has a name which another is to have. Whether nothing of this run has
    /// it any more.
    fn free_name(&mut self, path: &Path) -> Result<bool, Fault> {
        let Some(at) = self.own.iter().position(|own| own.path == path) else { return Ok(true) };
        if self.is_kept(path) {
            return Ok(false);
        }
        let old = self.own.remove(at);
        old.map_or(Ok(()), |old| self.delete(&old)).map_err(|error| Fault::of(path, error))?;
        Ok(true)
    }

    /// The same for a file that is complete; at the end of the run, whatever keeps the earlier one is waited
    /// for.
    fn free_name_now(&mut self, path: &Path, is_end: bool) -> Result<(), Fault> {
        let start = Instant::now();
        self.blocked_by = None;
        while !self.free_name(path)? {
            if !is_end || start.elapsed() >= COMMAND {
                self.blocked_by = Some(path.to_owned());
                let message = "the command for the earlier file of this name has not ended";
                return Err(Fault::of(path, io::Error::new(io::ErrorKind::ResourceBusy, message)));
            }
            thread::sleep(COMMAND_LOOK);
        }
        Ok(())
    }

    /// The time of a file that is begun now.
    fn now(&self) -> Zoned {
        let by_packets = self.packet_clock.as_ref().filter(|_| self.packet_time > 0);
        let time = by_packets.and_then(|_| Timestamp::from_nanosecond(i128::from(self.packet_time)).ok());
        time.map_or_else(Zoned::now, |time| time.to_zoned(TimeZone::system()))
    }

    /// Completes the file of a series, if there is one; where there is no space for that, for as long as
    /// deleting others helps. Where that may work later it is left as it is; but at the end of the run it is
    /// completed without what does not fit.
    fn close(
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
                let completed = self.close_as_it_is(index, end);
                // After a fault it may well be that the statistics do not fit either.
                let is_known = end.is_some_and(|end| end.has_failed);
                return completed.and(if is_known { Ok(()) } else { Err(fault) });
            }
        }
        Ok(())
    }

    /// Where it does not work, nothing has changed.
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

    fn close_as_it_is(&mut self, index: usize, end: Option<RunEnd>) -> Result<(), Fault> {
        let Series { number, ref mut part, .. } = self.series[index];
        let Some(mut part) = part.take() else { return Ok(()) };
        part.end_encoding()
            .map_err(|error| Fault::new(part.name(), error))
            .and(self.publish(&part, number, end))
    }

    /// Writes what stands at the end of a file, when its name is free.
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
            // For the next file's.
            losses.put_back(lost);
        }
        ended.map_err(|error| Fault { lacks: 1, ..Fault::new(part.name(), error) })
    }

    /// Gives a file its name.
    fn publish(&mut self, part: &CapturePart, number: u32, end: Option<RunEnd>) -> Result<(), Fault> {
        let Some(file) = part.file() else { return Ok(()) };
        let published = match end {
            _ if part.is_void() => file.remove(),
            Some(_) => file.complete(),
            // To wait for the disk would cost frames in the middle of a run.
            None => file.publish(),
        };
        let completed =
            published.and_then(|()| if part.is_void() { Ok(()) } else { self.completed(file, number == 0) });
        completed.map_err(|error| Fault::new(part.name(), error))
    }

    /// What stands in no statistics yet and belongs into those of a series.
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

    /// Completes all files. Gives the first fault.
    pub(super) fn complete(
        &mut self,
        capture: &CaptureFormat,
        losses: &Losses,
        end: RunEnd,
    ) -> Result<(), Fault> {
        let mut result = Ok(());
        // No packet came to name a file by: there is one all the same.
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

    /// Keeps what a reader can use, under its hidden name, and nothing else.
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
                "the capture did not end in order: readable, but neither complete nor renamed"
            );
        }
        Ok(())
    }

    fn is_taken(&self, path: &Path) -> io::Result<bool> {
        Ok(self.directory.holds(path.file_name().unwrap_or_default())?.is_some())
    }

    /// Deletes a file of this run, unless it is there no more, or another has its name.
    fn delete(&self, own: &OwnFile) -> io::Result<()> {
        let name = own.path.file_name().unwrap_or_default();
        if self.directory.holds(name)? == Some(own.id) { self.directory.remove(name) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capture that has completed so many files.
    fn completed(rotation: Rotation, min_free: MinFree, files: u32) -> Files {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let names = Names::new(&path, &rotation).unwrap();
        let plan = Plan { rotation, min_free, origins: Some(4), max_interfaces: 1 };
        let mut capture = Files::create(names, plan, Hooks::default(), None).unwrap();
        for number in 0..files {
            let file = HiddenFile::create(&directory.path().join(format!("x{number}"))).unwrap();
            file.publish().unwrap();
            capture.completed(&file, number == 0).unwrap();
        }
        capture
    }

    #[test]
    fn of_completed_files_only_those_are_known_that_may_be_deleted_or_replaced() {
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
    fn names_are_remembered_within_a_bound_and_none_is_taken_for_a_strangers_then() {
        let mut firsts = FirstNames::default();
        let path = |number: usize| PathBuf::from(format!("out-{number}"));
        for number in 0..FIRSTS {
            assert!(!firsts.has_forgotten);
            firsts.remember(&path(number));
        }
        assert!(firsts.may_have(&path(7)) && !firsts.may_have(&path(FIRSTS)));
        (0..1000).for_each(|number| firsts.remember(&path(FIRSTS + number)));
        assert!(firsts.hashes.len() <= FIRSTS && firsts.may_have(&path(FIRSTS)));
    }
}
