//! The body of a call: decoded, held against the model, and answered.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minato_fuzz::{SERVICES, routed};
use minato_wire::model::Protocol;
use minato_wire::protocol::{decode, encode_error};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (service, operation, body) = input;
    let service = SERVICES[usize::from(service) % SERVICES.len()];
    let count = service.operations.len();
    let operation = &service.operations[usize::from(operation) % count];
    let route = routed(service, operation);
    match decode(&route, operation, body) {
        Ok(value) => {
            // What is taken once is taken again: nothing is half valid.
            if matches!(route.protocol, Protocol::AwsJson(_)) {
                let text = value.to_string();
                let again = decode(&route, operation, text.as_bytes());
                assert_eq!(again.as_ref(), Ok(&value));
            }
        }
        Err(error) => {
            assert!(error.status() < 500, "{error:?}");
            let answer =
                encode_error(Some(service), route.protocol, &error, "id");
            assert!(answer.body().len() < 64 << 10);
        }
    }
});
