"""What botocore signs, and how it reads our answers.

`sign`: writes signed requests as JSON lines, for the verifier.
`parse`: reads JSON lines {service, operation, status, headers, body} and
writes what botocore makes of each, for the encoders.
`serialize`: reads JSON lines {service, operation, params} and writes the
requests botocore would send, for the decoders.
"""

import json
import sys

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.parsers
import botocore.serialize
import botocore.session

SESSION = botocore.session.get_session()


def model(service):
    return SESSION.get_service_model(service)


def flat(value):
    if isinstance(value, dict):
        return {name: flat(member) for name, member in value.items()}
    if isinstance(value, list):
        return [flat(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def sign():
    keys = {
        "plain": botocore.credentials.Credentials("AKIDEXAMPLE", "secret"),
        "token": botocore.credentials.Credentials(
            "AKIDEXAMPLE", "secret", "to/ken+=="
        ),
    }
    url = "http://127.0.0.1:4566"
    cases = [
        ("POST", url + "/", b"{}", {"X-Amz-Target": "A.B"}),
        ("POST", url + "/", "é\0".encode(), {"X-Amz-Meta": "a   b  c"}),
        ("GET", url + "/?Action=A&Version=1&x=%20a%2Fb", b"", {}),
        ("GET", url + "/a/./b/../c%20d/?b=2&a=1&a=0", b"", {}),
        ("POST", url + "/", b"x" * 100000, {"Content-Type": "text/plain"}),
    ]
    for name, key in keys.items():
        signers = [
            botocore.auth.SigV4Auth(key, "ecs", "eu-west-1"),
            botocore.auth.SigV4QueryAuth(key, "ecs", "eu-west-1", expires=60),
        ]
        for method, url, body, headers in cases:
            # botocore presigns bodies by moving them to the query.
            for signer in signers[: 2 if method == "GET" else 1]:
                request = botocore.awsrequest.AWSRequest(
                    method, url, dict(headers), body
                )
                signer.add_auth(request)
                prepared = request.prepare()
                sent = dict(prepared.headers.items())
                sent.pop("Content-Length", None)
                sent["Host"] = "127.0.0.1:4566"
                print(json.dumps({
                    "key": name,
                    "method": method,
                    "url": prepared.url,
                    "headers": {k: text(v) for k, v in sent.items()},
                    "body": list(body),
                }))


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def parse():
    for line in sys.stdin:
        case = json.loads(line)
        service = model(case["service"])
        operation = service.operation_model(case["operation"])
        parser = botocore.parsers.create_parser(service.protocol)
        response = {
            "status_code": case["status"],
            "headers": case["headers"],
            "body": case["body"].encode(),
        }
        parsed = parser.parse(response, operation.output_shape)
        print(json.dumps(flat(parsed)))


def serialize():
    for line in sys.stdin:
        case = json.loads(line)
        service = model(case["service"])
        serializer = botocore.serialize.create_serializer(service.protocol)
        operation = service.operation_model(case["operation"])
        request = serializer.serialize_to_request(case["params"], operation)
        body = request["body"]
        if isinstance(body, dict):
            body = botocore.compat.urlencode(body, doseq=True)
        headers = {k: text(v) for k, v in request["headers"].items()}
        print(json.dumps({"headers": headers, "body": text(body)}))


if __name__ == "__main__":
    {"sign": sign, "parse": parse, "serialize": serialize}[sys.argv[1]]()
