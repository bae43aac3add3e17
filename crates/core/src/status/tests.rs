use super::*;

/// The rank of a task status: a life only ever goes up.
fn rank(status: TaskStatus) -> usize {
    TaskStatus::ALL.iter().position(|each| *each == status).unwrap()
}

#[test]
fn names_go_there_and_back() {
    for status in TaskStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(*status));
        let json = serde_json::to_string(status).unwrap();
        assert_eq!(json, format!("\"{status}\""));
    }
    for status in InstanceStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(*status));
    }
    assert!("running".parse::<TaskStatus>().is_err());
    assert_eq!(
        "X".parse::<ClusterStatus>().unwrap_err().to_string(),
        "X is not the status of a cluster"
    );
}

#[test]
fn a_task_never_goes_back() {
    for from in TaskStatus::ALL {
        for event in TaskEvent::ALL {
            if let Ok(to) = from.step(*event) {
                assert!(rank(to) >= rank(*from), "{from} {event} {to}");
            }
        }
    }
}

#[test]
fn every_event_that_a_task_took_it_takes_again_or_refuses() {
    // Repeating an event must not move the task on a second time.
    for from in TaskStatus::ALL {
        for event in TaskEvent::ALL {
            if let Ok(to) = from.step(*event)
                && let Ok(again) = to.step(*event)
            {
                assert_eq!(to, again, "{from} {event}");
            }
        }
    }
}

#[test]
fn a_task_lives_and_dies() {
    use TaskEvent::*;
    let walk = |events: &[TaskEvent]| {
        events.iter().try_fold(TaskStatus::Provisioning, |status, event| {
            status.step(*event)
        })
    };
    assert_eq!(walk(&[Provisioned, Started]), Ok(TaskStatus::Running));
    assert_eq!(
        walk(&[Provisioned, Started, StopBegun, ContainersGone, Ended]),
        Ok(TaskStatus::Stopped)
    );
    assert_eq!(walk(&[StopBegun]), Ok(TaskStatus::Deprovisioning));
    assert_eq!(
        walk(&[Provisioned, StopBegun, Started]).unwrap_err().to_string(),
        "a task that is STOPPING cannot take the event Started"
    );
}

#[test]
fn every_living_task_can_be_stopped_and_ended() {
    for status in TaskStatus::ALL {
        if *status == TaskStatus::Deleted {
            continue;
        }
        assert!(status.step(TaskEvent::StopBegun).is_ok(), "{status}");
        assert_eq!(
            status.step(TaskEvent::Ended),
            Ok(TaskStatus::Stopped),
            "{status}"
        );
    }
}

#[test]
fn a_container_never_goes_back() {
    use {ContainerEvent::*, ContainerStatus::*};
    assert_eq!(Pending.step(Prepared), Ok(Pending));
    assert_eq!(Pending.step(Started), Ok(Running));
    assert_eq!(Pending.step(Ended), Ok(Stopped));
    assert_eq!(Running.step(Ended), Ok(Stopped));
    assert!(Running.step(Prepared).is_err());
    assert!(Stopped.step(Started).is_err());
}

#[test]
fn an_instance_drains_and_returns() {
    use {InstanceEvent::*, InstanceStatus::*};
    assert_eq!(Registering.step(Registered), Ok(Active));
    assert_eq!(Active.step(Drain), Ok(Draining));
    assert_eq!(Draining.step(Registered), Ok(Draining));
    assert_eq!(Draining.step(Activate), Ok(Active));
    assert_eq!(Active.step(Deregistered), Ok(Inactive));
    assert!(Inactive.step(Registered).is_err());
    assert!(Inactive.step(Drain).is_err());
    assert!(Deregistering.step(Activate).is_err());
    assert!(Draining.is_registered() && !Inactive.is_registered());
}

#[test]
fn a_deleted_cluster_may_be_made_again() {
    use {ClusterEvent::*, ClusterStatus::*};
    assert_eq!(Active.step(Deleted), Ok(Inactive));
    assert_eq!(Inactive.step(Created), Ok(Active));
    assert_eq!(Active.step(Created), Ok(Active));
    assert!(Deprovisioning.step(Created).is_err());
    assert!(Provisioning.step(Deleted).is_err());
}
