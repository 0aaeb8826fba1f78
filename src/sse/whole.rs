//! Checks and encodes a whole body at once, for tests and fuzz targets. The broker does it in slices.

use super::check::{Check, PublishError};
use super::encode::Encoder;
use super::event::{EventError, check_id, check_name};
use super::frame::UnsequencedFrame;
use super::parse::Slice;

/// Encodes a body of SSE text.
pub fn frames_from_text(text: &str) -> Result<Vec<UnsequencedFrame>, PublishError> {
    let mut check = Check::new(text);
    check.run(text, &mut Slice::unlimited())?;
    Ok(encode(Encoder::of_text(text, check.events(), None, None), text))
}

/// Encodes a body that is the data of one event.
pub fn frames_from_data(body: &str, name: Option<&str>, id: Option<&str>) -> Result<Vec<UnsequencedFrame>, EventError> {
    let (name, id) = (check_name(name)?.map(str::to_owned), check_id(id)?.map(str::to_owned));
    Ok(encode(Encoder::of_data(body, name, id), body))
}

/// Runs an encoder to the end of the body.
pub(super) fn encode(mut encoder: Encoder, body: &str) -> Vec<UnsequencedFrame> {
    encoder.run(body, &mut Slice::unlimited());
    encoder.finish()
}
