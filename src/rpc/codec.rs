//! How messages of the record service become bytes and back.
//!
//! Guarantee: a message is encoded into room of its own size, whatever that is, so that nothing of it is moved about.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// Room that a call gets before the size of its messages is known: that of most. What is larger gets its own.
const REQUEST_BYTES: usize = 512;
const ANSWER_BYTES: usize = 2 * 1024;
/// As much of a stream goes at once.
const STREAM_BYTES: usize = 32 * 1024;

/// The codec of a method whose answer is `T` and whose request is `U`.
pub struct AnswerCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for AnswerCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for AnswerCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = AnswerEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> AnswerEncoder<T> {
        AnswerEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(BufferSettings::new(REQUEST_BYTES, STREAM_BYTES))
    }
}

pub struct AnswerEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for AnswerEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(item.encoded_len());
        item.encode(to).map_err(|_| Status::internal("the answer has no room"))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ANSWER_BYTES, STREAM_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use tonic::codec::EncodeBody;

    use super::*;
    use crate::proto::v1::Subject;

    #[tokio::test]
    async fn a_message_of_any_size_is_framed_whole() {
        for size in [0, 100, ANSWER_BYTES, 3 * STREAM_BYTES] {
            let message = Subject { name: "n".repeat(size), create_time: None };
            let source = tokio_stream::once(Ok(message.clone()));
            let encoder = AnswerCodec::<Subject, Subject>::default().encoder();
            let body = EncodeBody::new_server(encoder, source, None, Default::default(), None);
            let (mut body, mut got) = (std::pin::pin!(body), Vec::new());
            while let Some(frame) =
                std::future::poll_fn(|cx| hyper::body::Body::poll_frame(body.as_mut(), cx)).await
            {
                if let Ok(data) = frame.unwrap().into_data() {
                    got.extend_from_slice(&data);
                }
            }
            let (head, rest) = got.split_at(5);
            assert_eq!(head, [&[0], (rest.len() as u32).to_be_bytes().as_slice()].concat());
            assert_eq!(Subject::decode(rest).unwrap(), message);
        }
    }
}
