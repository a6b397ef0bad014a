//! Topics, which a host of WASI does not have: they are denied.

use wit_bindgen::StreamReader;

use crate::Adapter;
use crate::exports::halfopen::tcp::{topic_streams, topics};

impl topics::Guest for Adapter {
    fn publish(_: String, _: Vec<u8>) -> Result<(), topics::TopicError> {
        Err(topics::TopicError::AccessDenied)
    }
}

impl topic_streams::Guest for Adapter {
    fn subscribe(
        _: String,
    ) -> Result<StreamReader<topic_streams::Delivery>, topic_streams::TopicError> {
        Err(topic_streams::TopicError::AccessDenied)
    }
}
