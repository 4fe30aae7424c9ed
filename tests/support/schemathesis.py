"""What schemathesis cannot know by the document alone: lines of JSON, and what is there.

Half of the requests are turned towards things that exist, so that more than refusals is seen. Which
half is said by what the request holds: the same in every run.
"""

import json
import os
import zlib

import schemathesis

REAL = {
    "messages": os.environ["POSTRIDER_MESSAGE"],
    "deliveries": os.environ["POSTRIDER_DELIVERY"],
    "webhooks": os.environ["POSTRIDER_WEBHOOK"],
}
ADDRESS = "ann@example.org"


def half(value):
    return zlib.crc32(repr(value).encode("utf-8", "replace")) % 2 == 0


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and not half(value):
        return value.encode("utf-8", "replace")
    # One line that is an object, as each has to be.
    line = {"to": ADDRESS, "address": ADDRESS, "vars": {"name": value}}
    return json.dumps(line if half([value]) else {"to": value}).encode() + b"\n"


@schemathesis.hook
def before_call(ctx, case, **kwargs):
    path, method = case.operation.path, case.operation.method.upper()
    given = case.path_parameters or {}
    kind = path.split("/")[2] if path.count("/") > 1 else ""
    if half(given) and method != "DELETE":
        if "id" in given and kind in REAL:
            given["id"] = REAL[kind]
        if "stream" in given:
            given["stream"] = "bulk"
        if "address" in given:
            given["address"] = ADDRESS
    body = case.body
    if not isinstance(body, dict) or not half(body):
        return
    if path == "/v1/messages":
        kept = {key: body[key] for key in ("vars", "metadata") if isinstance(body.get(key), dict)}
        case.body = {"from": "me@shop.example", "subject": "Hi", "text": "Hello", "stream": "bulk"}
        case.body |= {"recipients": [{"to": ADDRESS}]} | kept
    elif path == "/v1/suppressions":
        body["address"] = ADDRESS
    elif path.startswith("/v1/webhooks") and "url" in body:
        body["url"] = "http://127.0.0.1:9/hook"
