//! A task definition: every rule of RegisterTaskDefinition, and what follows
//! from one that is taken.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minato_fuzz::routed;
use minato_core::task_definition::{
    demand, normalise_and_check, start_order,
};
use minato_wire::ecs;
use minato_wire::protocol::decode;

fuzz_target!(|body: &[u8]| {
    let service = &ecs::SERVICE;
    let Some(operation) = service.operation("RegisterTaskDefinition") else {
        panic!("the model lost it");
    };
    let route = routed(service, operation);
    let Ok(value) = decode(&route, operation, body) else { return };
    let Ok(request) = serde_json::from_value(value) else { return };
    if let Ok(definition) = normalise_and_check(request) {
        let _ = demand(&definition);
        assert!(start_order(&definition).is_some(), "a cycle was taken");
    }
});
