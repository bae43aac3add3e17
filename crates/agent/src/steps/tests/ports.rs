//! Published ranges of ports.

use super::*;
use crate::runtime::PortProtocol;
use crate::task::record::Binding;

/// A task in bridge mode whose container has this range.
fn ranged(range: &str) -> minato_wire::acs::Task {
    let mut task = full_task("bridge");
    let mappings = json!([{"containerPortRange": range, "protocol": "udp"}]);
    task.containers[0].port_mappings =
        serde_json::from_value(mappings).unwrap();
    task
}

#[tokio::test]
async fn a_range_of_ports_is_published_as_one_run() {
    let fixture = fixture_of(&ranged("8000-8002"));
    let mut task_facts = TaskFacts::default();
    up(&task_steps(), &fixture.task, &mut task_facts).await.unwrap();
    let cx = fixture.container(task_facts);
    let mut facts = ContainerFacts::default();
    // A repeated step keeps the ports it was given.
    for _ in 0..2 {
        up(&container_steps(), &cx, &mut facts).await.unwrap();
        let expected = Binding {
            host_port: 32768,
            container_port: 8000,
            count: 3,
            protocol: PortProtocol::Udp,
        };
        assert_eq!(facts.bindings, [expected]);
    }
    let left = fixture.rig.runtime.leftovers();
    let ports = left.iter().filter(|it| it.starts_with("port "));
    assert_eq!(ports.count(), 3, "{left:?}");
}

#[test]
fn what_is_no_range_of_ports_is_refused() {
    for range in ["", "1", "0-5", "5-5", "6-5", "1-65536", "a-b", "1-2-3"] {
        let error = decode_task(&ranged(range)).unwrap_err().to_string();
        assert!(error.contains("containerPortRange"), "{range}: {error}");
    }
    let plan = decode_task(&ranged("1-65535")).unwrap();
    let port = &plan.containers[0].ports[0];
    assert_eq!((port.container_port, port.count), (1, 65535));
    assert_eq!(port.last(), 65535);
}
