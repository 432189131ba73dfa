//! How is a node asked what no generated client would ask?
//!
//! Over HTTP/2 with the message's bytes and all metadata in our hands. Nothing here ends a call at the
//! deadline that the node is told: whether the node does is what is tried.

use super::ask::{Asker, within};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status, metadata::MetadataMap};

/// A unary call with these bytes as its message; the answer's bytes. It has a connection of its own, and
/// ends with DEADLINE_EXCEEDED of ours a little after the longest time that any call is given.
pub(super) async fn call(
    asker: &Asker,
    path: &str,
    metadata: MetadataMap,
    message: Bytes,
) -> Result<Bytes, Status> {
    let asking = async { exchange(asker, path, metadata.into_headers(), &message).await.map(Response::new) };
    within(asking).await
}

async fn exchange(asker: &Asker, path: &str, metadata: HeaderMap, message: &Bytes) -> Result<Bytes, Status> {
    let stream = asker.open().await.map_err(|error| lost(&error))?;
    let (send, connection) = h2::client::handshake(stream).await.map_err(|error| lost(&error))?;
    // Ends with this call, however that ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut request = Request::post(format!("http://{}{path}", asker.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| Status::internal(error.to_string()))?;
    request.headers_mut().extend(metadata);
    let mut send = send.ready().await.map_err(|error| lost(&error))?;
    let (answer, mut body) = send.send_request(request, false).map_err(|error| lost(&error))?;
    // The answer says more than an error here, which only says that the node has reset us.
    let _ = body.send_data(framed(message), true);
    let (head, mut stream) = answer.await.map_err(|error| lost(&error))?.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(|error| lost(&error))?;
        let _ = stream.flow_control().release_capacity(piece.len());
        bytes.put_slice(&piece);
    }
    let trailers = stream.trailers().await.map_err(|error| lost(&error))?;
    let status = trailers.as_ref().and_then(Status::from_header_map);
    match status.or_else(|| Status::from_header_map(&head.headers)) {
        Some(status) if status.code() == Code::Ok => Ok(bytes.freeze()),
        Some(status) => Err(status),
        None => Err(Status::unknown(format!("no gRPC status, HTTP {}", head.status))),
    }
}

/// With the five bytes that gRPC puts before a message.
fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn lost(error: &dyn std::error::Error) -> Status {
    Status::unavailable(error.to_string())
}
