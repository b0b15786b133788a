//! Large replies, encoded in pieces while they are sent.
//!
//! A gRPC message is one protobuf message. tonic would encode it as a whole, which blocks the thread and
//! doubles the memory of the reply. But a protobuf message can be encoded in pieces: the concatenated
//! encodings of two messages are an encoding of the merged message. Only the total length is needed in
//! advance. Until a value is encoded, it shares the store's memory. If the client reads nothing of a reply
//! for [`STALL_TIMEOUT`], the reply is aborted, and its guard dropped.

use crate::backend::ReplyGuard;
use crate::proto::{etcdserverpb as pb, mvccpb};
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue};
use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use pb::response_op::Response as OpResponse;
use prost::Message;
use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;
use tokio::task::AbortHandle;
use tokio::time;
use tonic::{Response, Status};

/// Replies above this size in bytes are sent in pieces.
const LARGE: usize = 64 << 10;
/// Size in bytes at which a piece with several keys is complete.
const PIECE: usize = 64 << 10;
/// Time after which a reply is aborted if the client has read no piece of it.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Tags of fields with nested messages: `responses` of [`pb::TxnResponse`], and `response_range` of
/// [`pb::ResponseOp`].
const RESPONSES: u8 = 3 << 3 | 2;
const RESPONSE_RANGE: u8 = 1 << 3 | 2;

/// Message that can be encoded in pieces.
pub(crate) trait Divisible: Message + Default {
    /// Appends the parts of the message, in order.
    fn divide(self, parts: &mut VecDeque<Part>);
}

/// Part of a message, which is encoded as one or more pieces.
pub(crate) enum Part {
    Encoded(Bytes),
    /// Keys of a [`pb::RangeResponse`].
    Found(vec::IntoIter<mvccpb::KeyValue>),
    /// Keys of a [`pb::DeleteRangeResponse`].
    Deleted(vec::IntoIter<mvccpb::KeyValue>),
    /// Response inside a [`pb::TxnResponse`].
    Op(pb::ResponseOp),
}

/// Returns the response with a message. If the message is large, `guard` is kept until it is sent or
/// aborted, or else it is dropped.
///
/// For a large message, tonic encodes an empty one, and [`replace_body`] then replaces the body.
pub(crate) fn respond<M: Divisible>(message: M, guard: ReplyGuard) -> Response<M> {
    let len = message.encoded_len();
    if len <= LARGE {
        return Response::new(message);
    }
    let mut response = Response::new(M::default());
    let body = LargeBody::new(message, len, guard);
    response.extensions_mut().insert(PendingBody(Arc::new(Mutex::new(Some(body)))));
    response
}

/// Sets the large body of a response, if it has a pending one.
pub(crate) async fn replace_body(
    mut response: axum::response::Response,
) -> axum::response::Response {
    let Some(PendingBody(pending)) = response.extensions_mut().remove::<PendingBody>() else {
        return response;
    };
    let large = pending.lock().unwrap_or_else(PoisonError::into_inner).take();
    match large {
        Some(Ok(body)) => *response.body_mut() = Body::new(body.with_watchdog()),
        Some(Err(status)) => return status.into_http(),
        None => {}
    }
    response
}

/// Large body of a response, as an extension of the response until [`replace_body`] takes it. Extensions
/// must be `Clone`, but this one is never cloned.
#[derive(Clone)]
struct PendingBody(Arc<Mutex<Option<Result<LargeBody, Status>>>>);

/// Body of a response, with one large message.
struct LargeBody {
    content: Arc<Shared>,
    /// Watchdog task, which ends with the body.
    watch: Option<AbortHandle>,
}

/// Content, or `None` after the reply is aborted.
type Shared = Mutex<Option<Content>>;

struct Content {
    parts: VecDeque<Part>,
    /// The gRPC status; `None` once it has been sent.
    trailers: Option<HeaderMap>,
    /// True if the client has read a piece since the watchdog's last check.
    was_polled: bool,
    _guard: ReplyGuard,
}

/// Error of a client that read nothing of its reply for [`STALL_TIMEOUT`].
#[derive(Debug, thiserror::Error)]
#[error("the client has read nothing of the reply for 60 s")]
struct Stalled;

impl LargeBody {
    fn new<M: Divisible>(message: M, len: usize, guard: ReplyGuard) -> Result<Self, Status> {
        let len = u32::try_from(len).map_err(|_| {
            Status::resource_exhausted(
                "synod: the reply is larger than 4 GiB: read in pages with a limit",
            )
        })?;
        // The prefix of a gRPC message: not compressed, and the length.
        let mut prefix = BytesMut::with_capacity(5);
        prefix.put_u8(0);
        prefix.put_u32(len);
        let mut parts = VecDeque::from([Part::Encoded(prefix.freeze())]);
        message.divide(&mut parts);
        let ok = ("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"));
        let trailers = Some(HeaderMap::from_iter([ok]));
        let content = Content { parts, trailers, was_polled: true, _guard: guard };
        Ok(Self { content: Arc::new(Mutex::new(Some(content))), watch: None })
    }

    /// Starts the watchdog task.
    fn with_watchdog(mut self) -> Self {
        let watch = tokio::spawn(watch(Arc::clone(&self.content)));
        self.watch = Some(watch.abort_handle());
        self
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// Drops the content when the client has read none of it for [`STALL_TIMEOUT`].
async fn watch(content: Arc<Shared>) {
    loop {
        time::sleep(STALL_TIMEOUT).await;
        let mut content = lock(&content);
        if !content.as_mut().is_some_and(|content| mem::take(&mut content.was_polled)) {
            *content = None;
            return;
        }
    }
}

fn lock(content: &Shared) -> MutexGuard<'_, Option<Content>> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Content {
    /// Encodes the next piece.
    fn piece(&mut self) -> Option<Bytes> {
        loop {
            let piece = match self.parts.front_mut()? {
                Part::Found(kvs) => {
                    let kvs = next_keys(kvs);
                    let more = !kvs.is_empty();
                    more.then(|| encode(&pb::RangeResponse { kvs, ..Default::default() }))
                }
                Part::Deleted(kvs) => {
                    let prev_kvs = next_keys(kvs);
                    let more = !prev_kvs.is_empty();
                    more.then(|| {
                        encode(&pb::DeleteRangeResponse { prev_kvs, ..Default::default() })
                    })
                }
                Part::Encoded(bytes) => Some(mem::take(bytes)).filter(|b| !b.is_empty()),
                Part::Op(op) => op.response.take().map(|response| {
                    let responses = vec![pb::ResponseOp { response: Some(response) }];
                    encode(&pb::TxnResponse { responses, ..Default::default() })
                }),
            };
            if piece.is_some() {
                return piece;
            }
            self.parts.pop_front();
        }
    }
}

impl HttpBody for LargeBody {
    type Data = Bytes;
    type Error = Stalled;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        let mut content = lock(&self.content);
        let Some(content) = &mut *content else { return Poll::Ready(Some(Err(Stalled))) };
        content.was_polled = true;
        let frame = match content.piece() {
            Some(piece) => Some(Frame::data(piece)),
            None => content.trailers.take().map(Frame::trailers),
        };
        Poll::Ready(frame.map(Ok))
    }
}

impl Divisible for pb::RangeResponse {
    fn divide(mut self, parts: &mut VecDeque<Part>) {
        let kvs = mem::take(&mut self.kvs);
        parts.push_back(Part::Encoded(encode(&self)));
        parts.push_back(Part::Found(kvs.into_iter()));
    }
}

impl Divisible for pb::DeleteRangeResponse {
    fn divide(mut self, parts: &mut VecDeque<Part>) {
        let kvs = mem::take(&mut self.prev_kvs);
        parts.push_back(Part::Encoded(encode(&self)));
        parts.push_back(Part::Deleted(kvs.into_iter()));
    }
}

impl Divisible for pb::TxnResponse {
    fn divide(mut self, parts: &mut VecDeque<Part>) {
        let responses = mem::take(&mut self.responses);
        parts.push_back(Part::Encoded(encode(&self)));
        for op in responses {
            match op {
                pb::ResponseOp { response: Some(OpResponse::ResponseRange(range)) } => {
                    // A nested message starts with its tag and length, and then the range's tag and
                    // length.
                    let (mut inner, len) = (vec![RESPONSE_RANGE], range.encoded_len());
                    put_length(len, &mut inner);
                    let mut head = vec![RESPONSES];
                    put_length(inner.len() + len, &mut head);
                    head.append(&mut inner);
                    parts.push_back(Part::Encoded(head.into()));
                    range.divide(parts);
                }
                other => parts.push_back(Part::Op(other)),
            }
        }
    }
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn put_length(len: usize, into: &mut Vec<u8>) {
    prost::encode_length_delimiter(len, into).expect("writing to a vector cannot fail");
}

/// Returns the next keys: at least one if any are left, and no more after their encoded size reaches that
/// of a piece.
fn next_keys(kvs: &mut vec::IntoIter<mvccpb::KeyValue>) -> Vec<mvccpb::KeyValue> {
    let mut bytes = 0;
    let mut next = Vec::new();
    while bytes < PIECE
        && let Some(kv) = kvs.next()
    {
        bytes += kv.encoded_len();
        next.push(kv);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kvs(count: usize, value: usize) -> Vec<mvccpb::KeyValue> {
        let kv = |number: usize| mvccpb::KeyValue {
            key: format!("key {number}").into(),
            value: vec![7; value].into(),
            mod_revision: i64::try_from(number).unwrap(),
            ..Default::default()
        };
        (0..count).map(kv).collect()
    }

    /// Returns the pieces of a message, and asserts that together they are its encoding.
    fn pieces<M: Divisible + PartialEq + Clone>(message: &M) -> Vec<Bytes> {
        let len = message.encoded_len();
        let body = LargeBody::new(message.clone(), len, ReplyGuard::default()).unwrap();
        let pieces: Vec<_> = std::iter::from_fn(|| lock(&body.content).as_mut()?.piece()).collect();
        let whole = pieces.concat();
        assert_eq!(whole[..5], [&[0][..], &u32::try_from(len).unwrap().to_be_bytes()].concat());
        assert_eq!(whole.len(), len + 5);
        assert!(M::decode(&whole[5..]).is_ok_and(|decoded| decoded == *message));
        pieces
    }

    fn range(count: usize, value: usize) -> pb::RangeResponse {
        let header = Some(pb::ResponseHeader { cluster_id: 7, ..Default::default() });
        pb::RangeResponse { header, kvs: kvs(count, value), more: true, count: 9 }
    }

    #[test]
    fn concatenated_pieces_are_the_encoded_message() {
        let large = pieces(&range(5_000, 100));
        assert!(large.len() > 8 && large.iter().all(|piece| piece.len() < 2 * PIECE));
        assert_eq!(pieces(&range(3, 1 << 20)).len(), 5, "a key larger than a piece is one piece");
        pieces(&range(0, 0));
        let deleted = kvs(3_000, 50);
        let deleted = pb::DeleteRangeResponse { header: None, deleted: 3, prev_kvs: deleted };
        pieces(&deleted);
        let op = |response| pb::ResponseOp { response: Some(response) };
        let responses = vec![
            op(OpResponse::ResponseRange(range(2_000, 100))),
            op(OpResponse::ResponsePut(pb::PutResponse { prev_kv: kvs(1, 9).pop(), header: None })),
            op(OpResponse::ResponseRange(pb::RangeResponse::default())),
            op(OpResponse::ResponseDeleteRange(deleted)),
            op(OpResponse::ResponseRange(range(2_000, 100))),
        ];
        pieces(&pb::TxnResponse { header: None, succeeded: true, responses });
    }

    #[tokio::test(start_paused = true)]
    async fn reply_is_aborted_if_its_client_reads_nothing_for_the_timeout() {
        let guard = Arc::new(());
        let message = range(5_000, 100);
        let len = message.encoded_len();
        let body = LargeBody::new(message, len, ReplyGuard::new(Arc::clone(&guard))).unwrap();
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut taken = Body::new(body.with_watchdog());
        for _ in 0..3 {
            time::sleep(STALL_TIMEOUT - Duration::from_secs(1)).await;
            let frame = Pin::new(&mut taken).poll_frame(&mut context);
            assert!(matches!(frame, Poll::Ready(Some(Ok(_)))), "a slow client is served");
        }
        assert_eq!(Arc::strong_count(&guard), 2);
        time::sleep(STALL_TIMEOUT * 2).await;
        assert_eq!(Arc::strong_count(&guard), 1, "the guard is dropped");
        let frame = Pin::new(&mut taken).poll_frame(&mut context);
        assert!(matches!(frame, Poll::Ready(Some(Err(_)))), "the reply ends with an error");
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_of_a_reply_ends_with_its_body() {
        let message = range(1_000, 100);
        let len = message.encoded_len();
        let body = LargeBody::new(message, len, ReplyGuard::default()).unwrap().with_watchdog();
        let watch = body.watch.clone().unwrap();
        tokio::task::yield_now().await;
        assert!(!watch.is_finished());
        drop(body);
        tokio::task::yield_now().await;
        assert!(watch.is_finished());
    }

    #[test]
    fn guard_of_a_reply_is_kept_until_its_body_is_dropped() {
        let guard = Arc::new(());
        let small = respond(range(1, 1), ReplyGuard::new(Arc::clone(&guard)));
        assert_eq!((Arc::strong_count(&guard), small.get_ref().kvs.len()), (1, 1));
        let mut large = respond(range(100, 1_000), ReplyGuard::new(Arc::clone(&guard)));
        assert_eq!((Arc::strong_count(&guard), large.get_ref().kvs.len()), (2, 0));
        drop(large.extensions_mut().remove::<PendingBody>());
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}
