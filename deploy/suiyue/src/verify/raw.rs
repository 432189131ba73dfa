//! How is a node asked what no generated client would ask?
//!
//! With the message's bytes and the metadata in our hands.

use super::ask::{Asker, within};
use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

/// A unary call with these bytes as its message; the answer's bytes. The caller says how long it takes.
pub(super) async fn call(
    asker: &Asker,
    path: &'static str,
    metadata: MetadataMap,
    message: impl Into<Bytes>,
) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(asker.channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = Request::from_parts(metadata, tonic::Extensions::default(), message.into());
    within(client.unary(request, http::uri::PathAndQuery::from_static(path), Plain)).await
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
