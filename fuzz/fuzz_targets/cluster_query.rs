//! The cluster query language, and a container instance held against it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minato_core::query::{Expression, Subject};
use minato_wire::Timestamp;

struct Instance<'a>(&'a str);

impl Subject for Instance<'_> {
    fn attribute(&self, name: &str) -> Option<&str> {
        (name.len() % 3 != 0).then_some(self.0)
    }

    fn any_task_group(&self, test: &mut dyn FnMut(&str) -> bool) -> bool {
        test(self.0)
    }

    fn agent_connected(&self) -> bool {
        true
    }

    fn agent_version(&self) -> Option<&str> {
        Some(self.0)
    }

    fn ec2_instance_id(&self) -> Option<&str> {
        None
    }

    fn registered_at(&self) -> Timestamp {
        Timestamp::default()
    }

    fn running_tasks_count(&self) -> i64 {
        3
    }
}

// An expression, and after its line what the instance has for an answer.
fuzz_target!(|input: &str| {
    let (source, value) = input.split_once('\n').unwrap_or((input, ""));
    match Expression::parse(source) {
        Ok(expression) => {
            let _ = expression.matches(&Instance(value));
        }
        Err(error) => {
            let _ = error.with_caret(source);
        }
    }
});
