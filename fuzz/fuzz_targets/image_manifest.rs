//! What a registry or an archive says an image is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minato_engine::image::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::documents(bytes));
