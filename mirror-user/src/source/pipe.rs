//! Reading from pipes, FIFOs and terminals, which may block.
//!
//! The standard library reads without a timeout, so a thread does the waiting. It ends with the stream; if
//! the writer never writes again, with the process.

use std::{
    io::{self, ErrorKind, Read},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// The longest that a read waits.
const TIMEOUT: Duration = Duration::from_millis(50);

/// Bytes of a block, and the number of blocks.
const BLOCK: usize = 64 * 1024;
const BLOCKS: usize = 8;

/// The reading end: a [`Read`] that returns `TimedOut` if no byte arrived in 50 ms.
#[derive(Debug)]
pub(super) struct Pipe {
    full: Receiver<io::Result<Block>>,
    empty: Sender<Block>,
    block: Block,
    ended: bool,
}

/// `len` bytes, of which the first `taken` have been read.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    len: usize,
    taken: usize,
}

impl Pipe {
    /// Opens and reads on its own thread.
    pub(super) fn spawn<R: Read>(open: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<Self> {
        let (full, receive_full) = bounded(BLOCKS);
        let (empty, receive_empty) = bounded(BLOCKS);
        for _ in 0..BLOCKS - 1 {
            // The channel holds them all.
            let _ = empty.try_send(Block { bytes: vec![0; BLOCK], len: 0, taken: 0 });
        }
        thread::Builder::new().name("mirror-pipe".into()).spawn(move || {
            if let Err(error) = pump(open, &receive_empty, &full) {
                // The reader is gone, and needs no error.
                let _ = full.send(Err(error));
            }
        })?;
        Ok(Self { full: receive_full, empty, block: Block::default(), ended: false })
    }
}

/// Fills empty blocks until the stream ends or the other end is gone.
fn pump<R: Read>(
    open: impl FnOnce() -> io::Result<R>,
    empty: &Receiver<Block>,
    full: &Sender<io::Result<Block>>,
) -> io::Result<()> {
    let mut reader = open()?;
    while let Ok(mut block) = empty.recv() {
        block.taken = 0;
        block.len = loop {
            match reader.read(&mut block.bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if block.len == 0 || full.send(Ok(block)).is_err() {
            break;
        }
    }
    Ok(())
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        if self.block.taken == self.block.len {
            let next = match self.full.recv_timeout(TIMEOUT) {
                Ok(next) => next?,
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::TimedOut.into()),
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    return Ok(0);
                }
            };
            let done = std::mem::replace(&mut self.block, next);
            if !done.bytes.is_empty() {
                // The thread may have ended already, and then needs no blocks.
                let _ = self.empty.try_send(done);
            }
        }
        let at_hand = &self.block.bytes[self.block.taken..self.block.len];
        let len = at_hand.len().min(buffer.len());
        buffer[..len].copy_from_slice(&at_hand[..len]);
        self.block.taken += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Reads what it is sent, and blocks in between.
    struct Fed(Receiver<Vec<u8>>);

    impl Read for Fed {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.recv() {
                Ok(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    Ok(bytes.len())
                }
                Err(_) => Ok(0),
            }
        }
    }

    #[test]
    fn a_silent_writer_times_out_and_nothing_is_lost() {
        let (feed, fed) = bounded(100);
        let mut pipe = Pipe::spawn(move || Ok(Fed(fed))).unwrap();
        let mut buffer = [0; 3];
        assert_eq!(pipe.read(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
        let sent: Vec<u8> = (0..100).collect();
        for bytes in sent.chunks(7) {
            feed.send(bytes.to_vec()).unwrap();
        }
        drop(feed);
        let mut received = Vec::new();
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => received.extend_from_slice(&buffer[..len]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        assert_eq!(received, sent);
        assert_eq!(pipe.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn an_error_of_the_stream_arrives() {
        let mut pipe = Pipe::spawn(|| Err::<File, _>(io::Error::from(ErrorKind::PermissionDenied))).unwrap();
        let error = loop {
            match pipe.read(&mut [0; 8]) {
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
}
