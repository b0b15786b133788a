//! Streams of one connection: one for each lane and direction, open as long as the connection.

use super::frame::{self, FrameReader};
use super::link::{CloseCode, Link};
use super::{LANES, Shared};
use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadError, ReadExactError, RecvStream, WriteError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use synod_types::Lane;
use tokio::task::JoinSet;

/// Maximum size of a write in bytes. The limit of the queue does not count the bytes of a write in
/// progress, so a write must be small compared with the flow control window.
const WRITE_BATCH_BYTES: usize = 256 << 10;

/// The maximum number of chunks in a read of a stream.
const CHUNKS: usize = 64;

/// Transfers frames both ways until the connection ends, closes it, and returns the reason.
pub(super) async fn run(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    connection: &Connection,
    first: Option<RecvStream>,
) -> String {
    // Dropping the set aborts its tasks, also if this future is dropped before it completes.
    let mut tasks = JoinSet::new();
    for lane in Lane::ALL {
        tasks.spawn(write_lane(Arc::clone(link), connection.clone(), lane));
    }
    let reader = Reader {
        shared: Arc::clone(shared),
        link: Arc::clone(link),
        connection: connection.clone(),
        seen: Arc::default(),
    };
    tasks.spawn(reader.accept(first));
    let end = match tasks.join_next().await {
        Some(Ok(end)) => end,
        Some(Err(error)) => End::Violation(format!("a task of the connection failed: {error}")),
        None => End::Closed,
    };
    // The connection's own reason, if there is one, explains why its tasks ended.
    let reason = connection.close_reason().map_or_else(|| end.to_string(), |why| why.to_string());
    let code = match end {
        End::Violation(_) => CloseCode::Violation,
        End::Closed => CloseCode::Closing,
        End::Lost => CloseCode::Ended,
    };
    connection.close(code.into(), reason.as_bytes());
    reason
}

/// Reason why a task of the connection ended, which ends the connection.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("protocol violation: {0}")]
    Violation(String),
    #[error("the transport is closed")]
    Closed,
    #[error("connection lost")]
    Lost,
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(_) => Self::Lost,
            error => Self::Violation(error.to_string()),
        }
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(_) => Self::Lost,
            error => Self::Violation(error.to_string()),
        }
    }
}

impl From<ConnectionError> for End {
    fn from(_: ConnectionError) -> Self {
        Self::Lost
    }
}

/// Returns the number of a lane, the first byte of its stream.
fn lane_number(lane: Lane) -> u8 {
    match lane {
        Lane::Control => 0,
        Lane::Log => 1,
        Lane::Bulk => 2,
        Lane::Forward => 3,
    }
}

/// Returns the QUIC priority of a lane: packets are filled from the streams of the highest priority first.
fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Control => 3,
        Lane::Log => 2,
        Lane::Forward => 1,
        Lane::Bulk => 0,
    }
}

async fn write_lane(link: Arc<Link>, connection: Connection, lane: Lane) -> End {
    match try_write_lane(&link, &connection, lane).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

/// Writes the queued frames of a lane, up to [`WRITE_BATCH_BYTES`] at a time, until the connection ends.
async fn try_write_lane(
    link: &Link,
    connection: &Connection,
    lane: Lane,
) -> Result<std::convert::Infallible, End> {
    let mut stream = connection.open_uni().await?;
    // Fails only for a closed stream, for which the write below fails as well.
    let _ = stream.set_priority(priority(lane));
    stream.write_all(&[lane_number(lane)]).await?;
    let (mut frames, mut pieces) = (Vec::new(), Vec::new());
    loop {
        link.outbox.drain(lane, WRITE_BATCH_BYTES, &mut frames).await;
        link.count_sent(frames.len(), frames.iter().map(Bytes::len).sum());
        frame::encode(&mut frames, &mut pieces);
        stream.write_all_chunks(&mut pieces).await?;
        pieces.clear();
    }
}

/// Reader of the peer's streams.
#[derive(Clone)]
struct Reader {
    shared: Arc<Shared>,
    link: Arc<Link>,
    connection: Connection,
    /// One bit for each lane whose stream was accepted.
    seen: Arc<AtomicU8>,
}

impl Reader {
    /// Accepts and reads the peer's streams until one of them ends. No stream ends before the connection.
    async fn accept(self, first: Option<RecvStream>) -> End {
        let mut readers = JoinSet::new();
        let read = |stream| {
            let reader = self.clone();
            async move {
                match reader.read_lane(stream).await {
                    Ok(never) => match never {},
                    Err(end) => end,
                }
            }
        };
        if let Some(stream) = first {
            readers.spawn(read(stream));
        }
        loop {
            tokio::select! {
                Some(end) = readers.join_next() => {
                    return end.unwrap_or_else(|error| End::Violation(error.to_string()));
                }
                stream = self.connection.accept_uni() => match stream {
                    // quinn enforces this limit as well: `max_concurrent_uni_streams`.
                    Ok(stream) if readers.len() < LANES => readers.spawn(read(stream)),
                    Ok(_) => return End::Violation("more streams than lanes".to_owned()),
                    Err(error) => return error.into(),
                },
            };
        }
    }

    /// Moves the frames of one stream to the inbox. If the inbox is full, reading stops, and flow control
    /// applies backpressure to the peer on this lane only: its queue fills, and then it drops frames.
    async fn read_lane(&self, mut stream: RecvStream) -> Result<std::convert::Infallible, End> {
        let lane = self.lane_of(&mut stream).await?;
        let mut frames = VecDeque::new();
        let mut reader = FrameReader::new(self.shared.limits.max_frame);
        let mut pieces: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
        loop {
            let Some(read) = stream.read_chunks(&mut pieces).await? else {
                return Err(End::Violation(format!("the stream of lane {lane:?} ended")));
            };
            for piece in pieces.iter_mut().take(read) {
                reader
                    .feed(&std::mem::take(piece), &mut frames)
                    .map_err(|error| End::Violation(error.to_string()))?;
            }
            let (count, bytes) = (frames.len(), frames.iter().map(Bytes::len).sum());
            if !self.shared.inbox.push_all(lane, self.link.node, &mut frames).await {
                return Err(End::Closed);
            }
            self.link.count_received(count, bytes);
        }
    }

    /// Reads the lane of a stream. Each lane may have one stream.
    async fn lane_of(&self, stream: &mut RecvStream) -> Result<Lane, End> {
        let mut first = [0];
        stream.read_exact(&mut first).await.map_err(|error| match error {
            ReadExactError::ReadError(error) => End::from(error),
            ReadExactError::FinishedEarly(_) => {
                End::Violation("a stream ended before its lane byte".to_owned())
            }
        })?;
        let [first] = first;
        let lane = Lane::ALL.into_iter().find(|lane| lane_number(*lane) == first);
        let lane = lane.ok_or_else(|| End::Violation(format!("unknown lane {first}")))?;
        let bit = 1 << first;
        if self.seen.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return Err(End::Violation(format!("a second stream for lane {lane:?}")));
        }
        Ok(lane)
    }
}
