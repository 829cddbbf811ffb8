//! Deleted files whose space is not free yet: a file system may take long for that (ext4 with `discard`:
//! 40 ms for 256 MiB), so a thread of its own waits for it.

use std::{fs::File, io, thread};

use crossbeam_channel::{Receiver, Sender};

/// The most deleted files that may still have space.
const MOST: usize = 2;
const NAME: &str = "mirror-pcap-rm";

/// Files without a name, closed by a thread, which is started with the first.
#[derive(Default)]
pub(super) struct DeletedFiles {
    closer: Option<Closer>,
}

struct Closer {
    files: Sender<File>,
    closed: Receiver<()>,
    pending: usize,
}

impl DeletedFiles {
    /// Closes the file of a name that was removed, soon. Waits if many are not closed yet.
    pub(super) fn push(&mut self, file: File) {
        if self.closer.is_none() {
            match Closer::start() {
                Ok(closer) => self.closer = Some(closer),
                // Dropped here, it is closed.
                Err(error) => return tracing::debug!(%error, "no thread to free the space of deleted files"),
            }
        }
        if let Some(closer) = &mut self.closer {
            closer.wait_for(MOST - 1);
            if closer.files.send(file).is_ok() {
                closer.pending += 1;
            }
        }
    }

    /// Waits until all are closed. Returns whether there were any since the last time: if so, what lacked
    /// space before may have it now.
    pub(super) fn wait(&mut self) -> bool {
        let Some(closer) = &mut self.closer else { return false };
        let pending = closer.pending;
        closer.wait_for(0);
        pending > 0
    }
}

/// No space is left to be freed after the capture's last file.
impl Drop for DeletedFiles {
    fn drop(&mut self) {
        self.wait();
    }
}

impl Closer {
    fn start() -> io::Result<Self> {
        let (files, inbox) = crossbeam_channel::bounded::<File>(MOST);
        let (outbox, closed) = crossbeam_channel::bounded(MOST);
        // It ends with the sender of files.
        thread::Builder::new().name(NAME.to_owned()).spawn(move || {
            for file in inbox {
                drop(file);
                if outbox.send(()).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { files, closed, pending: 0 })
    }

    /// Waits until at most so many are pending.
    fn wait_for(&mut self, most: usize) {
        while self.pending > most {
            // A thread that has ended has closed all.
            self.pending = if self.closed.recv().is_ok() { self.pending - 1 } else { 0 };
        }
    }
}
