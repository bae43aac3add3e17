//! What CreateService takes and what it refuses.

use minato_wire::ecs::{
    self, CreateServiceRequest, DeploymentConfiguration, UpdateServiceRequest,
};

use super::play::{Play, web};
use crate::services::ecs::services::{create_service, update_service};

#[tokio::test]
async fn what_is_not_built_is_refused_and_not_ignored() {
    let play = Play::new(1).await;
    play.define("web", 50, false).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let code_deploy = ecs::DeploymentController {
        r#type: Some(ecs::DeploymentControllerType::CodeDeploy),
    };
    let alarms = ecs::DeploymentAlarms {
        alarm_names: Some(vec!["a".into()]),
        enable: Some(true),
        rollback: Some(true),
    };
    let alarmed =
        DeploymentConfiguration { alarms: Some(alarms), ..Default::default() };
    let blue_green = DeploymentConfiguration {
        strategy: Some(ecs::DeploymentStrategy::BlueGreen),
        ..Default::default()
    };
    for input in [
        CreateServiceRequest {
            deployment_controller: Some(code_deploy),
            ..web(1)
        },
        CreateServiceRequest {
            load_balancers: Some(vec![ecs::LoadBalancer::default()]),
            ..web(1)
        },
        CreateServiceRequest {
            deployment_configuration: Some(alarmed),
            ..web(1)
        },
        CreateServiceRequest {
            deployment_configuration: Some(blue_green),
            ..web(1)
        },
    ] {
        let refused = create_service(cx, &scope, input).await.unwrap_err();
        assert_eq!(refused.code(), "UnsupportedFeatureException");
    }
    // The same request again is no mistake, another one is.
    create_service(cx, &scope, web(1)).await.unwrap();
    create_service(cx, &scope, web(1)).await.unwrap();
    let other = create_service(cx, &scope, web(2)).await.unwrap_err();
    assert_eq!(other.message(), "Creation of service was not idempotent.");
}

#[tokio::test]
async fn commands_are_run_only_in_services_with_a_task_role() {
    let play = Play::new(1).await;
    play.define("web", 50, false).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let why = |done: &str| {
        format!(
            "The service couldn't be {done} because a valid taskRoleArn is \
             not being used. Specify a valid task role in your task \
             definition and try again."
        )
    };
    let with_exec =
        CreateServiceRequest { enable_execute_command: Some(true), ..web(1) };
    let refused = create_service(cx, &scope, with_exec).await.unwrap_err();
    assert_eq!(refused.code(), "InvalidParameterException");
    assert_eq!(refused.message(), why("created"));

    create_service(cx, &scope, web(1)).await.unwrap();
    let enable = |definition: &str| UpdateServiceRequest {
        service: Some("web".into()),
        enable_execute_command: Some(true),
        task_definition: Some(definition.into()),
        ..Default::default()
    };
    let refused = update_service(cx, &scope, enable("web:1")).await;
    assert_eq!(refused.unwrap_err().message(), why("updated"));
    play.define_with_role().await;
    update_service(cx, &scope, enable("web:2")).await.unwrap();
    // Nor does it go back to a definition without a role.
    let back = UpdateServiceRequest {
        enable_execute_command: None,
        ..enable("web:1")
    };
    let refused = update_service(cx, &scope, back).await.unwrap_err();
    assert_eq!(refused.message(), why("updated"));
}
