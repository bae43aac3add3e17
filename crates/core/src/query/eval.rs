//! Expressions and a container instance to yes or no.

use std::cmp::Ordering;

use minato_wire::Timestamp;

use super::{AttributeTest, Node, Order, Test, TextArgument, TextTest};

/// What an expression can ask about a container instance.
pub trait Subject {
    /// The attribute's value; the empty text if it has a name only, `None`
    /// if the instance does not have it.
    fn attribute(&self, name: &str) -> Option<&str>;

    /// Whether a task of a group of which `test` is true is on the instance.
    fn any_task_group(&self, test: &mut dyn FnMut(&str) -> bool) -> bool;

    /// Whether its agent is connected.
    fn agent_connected(&self) -> bool;

    /// The version of its agent, if known.
    fn agent_version(&self) -> Option<&str>;

    /// Its EC2 instance id, if it has one.
    fn ec2_instance_id(&self) -> Option<&str>;

    /// When it registered.
    fn registered_at(&self) -> Timestamp;

    /// How many tasks run on it.
    fn running_tasks_count(&self) -> i64;
}

pub(super) fn holds(node: &Node, instance: &dyn Subject) -> bool {
    match node {
        Node::Or(nodes) => nodes.iter().any(|node| holds(node, instance)),
        Node::And(nodes) => nodes.iter().all(|node| holds(node, instance)),
        Node::Not(node) => !holds(node, instance),
        Node::Test(test) => test_holds(test, instance),
    }
}

fn test_holds(test: &Test, instance: &dyn Subject) -> bool {
    match test {
        Test::Attribute(name, test) => {
            attribute_holds(test, instance.attribute(name))
        }
        // "No task of that group", not "some task of another group".
        Test::TaskGroup(test) => {
            let mut positive = |group: &str| test.to.accepts(group);
            instance.any_task_group(&mut positive) != test.negated
        }
        Test::AgentConnected(test) => {
            let value =
                if instance.agent_connected() { "true" } else { "false" };
            test.holds(Some(value))
        }
        Test::Ec2InstanceId(test) => test.holds(instance.ec2_instance_id()),
        Test::AgentVersion(order, wanted) => match instance.agent_version() {
            Some(version) => order.admits(version_order(version, wanted)),
            None => *order == Order::NotEqual,
        },
        Test::RegisteredAt(order, wanted) => {
            order.admits(instance.registered_at().cmp(wanted))
        }
        Test::RunningTasksCount(order, wanted) => {
            order.admits(instance.running_tasks_count().cmp(wanted))
        }
    }
}

fn attribute_holds(test: &AttributeTest, value: Option<&str>) -> bool {
    match (test, value) {
        (AttributeTest::Exists { negated }, value) => {
            value.is_some() != *negated
        }
        (AttributeTest::Text(test), value) => test.holds(value),
        (AttributeTest::Order(_, _), None) => false,
        (AttributeTest::Order(order, wanted), Some(value)) => {
            order.admits(natural_order(value, wanted))
        }
    }
}

impl TextTest {
    /// A missing value equals nothing, so every negated test is true of it.
    fn holds(&self, value: Option<&str>) -> bool {
        value.is_some_and(|value| self.to.accepts(value)) != self.negated
    }
}

impl TextArgument {
    fn accepts(&self, value: &str) -> bool {
        match self {
            TextArgument::Equal(wanted) => value == wanted,
            TextArgument::In(wanted) => {
                wanted.iter().any(|wanted| value == wanted)
            }
            TextArgument::Matches { regex, .. } => regex.is_match(value),
        }
    }
}

/// As numbers if both are numbers, as text otherwise.
fn natural_order(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    }
}

/// Dotted parts compare as numbers; a missing part is zero.
fn version_order(a: &str, b: &str) -> Ordering {
    let part = |text: Option<&str>| {
        text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let (left, right) = (a.next(), b.next());
        if left.is_none() && right.is_none() {
            return Ordering::Equal;
        }
        let order = part(left).cmp(&part(right));
        if order.is_ne() {
            return order;
        }
    }
}
