"""Calls a gateway with stock botocore clients; writes what came back."""

import json
import sys

import botocore.config
import botocore.exceptions
import botocore.session

SESSION = botocore.session.get_session()


def client(service, secret="secret", key="AKIDEXAMPLE"):
    return SESSION.create_client(
        service,
        region_name="eu-west-1",
        endpoint_url=sys.argv[1],
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=botocore.config.Config(
            retries={"max_attempts": 0}, proxies={}
        ),
    )


def told(call):
    try:
        answer = call()
    except botocore.exceptions.ClientError as error:
        answer = error.response
        return [
            answer["ResponseMetadata"]["HTTPStatusCode"],
            answer["Error"]["Code"],
        ]
    assert answer.pop("ResponseMetadata")["RequestId"]
    return answer


ecs = client("ecs")
wrong = {"secret": "wrong"}
unknown = {"key": "AKIDNOBODY"}
print(json.dumps({
    "list": told(ecs.list_clusters),
    "fails": told(lambda: ecs.stop_task(task="a")),
    "panics": told(lambda: ecs.describe_tasks(tasks=["a"])),
    "identity": told(client("sts").get_caller_identity),
    "vpcs": told(client("ec2").describe_vpcs),
    "wrong ecs": told(client("ecs", **wrong).list_clusters),
    "wrong sts": told(client("sts", **wrong).get_caller_identity),
    "wrong ec2": told(client("ec2", **wrong).describe_vpcs),
    "unknown ecs": told(client("ecs", **unknown).list_clusters),
    "unknown sts": told(client("sts", **unknown).get_caller_identity),
    "unknown ec2": told(client("ec2", **unknown).describe_vpcs),
}))
