"""Takes OTLP/HTTP logs on loopback for tests, reads them with the protobuf classes of OpenTelemetry itself, and writes one
line of JSON for each record.

  otlp-receiver.py OUT CERT KEY BEHAVIOUR

It prints its port. BEHAVIOUR is a file that is read at each request: `{"status": 503}` answers so, with the credential that it
was sent, and keeps nothing, with `"code"` as the protobuf message of that code,
`{"reject": TEXT}` answers 200 and rejects the records whose body has TEXT (a partial success), `{"refuse": TEXT}` answers 400
to a request that has such a record; absent or `{}`: everything is taken.
"""
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

out, cert, key, behaviour_file = sys.argv[1:5]


def value_of(value):
    return getattr(value, value.WhichOneof("value"))


def behaviour():
    try:
        with open(behaviour_file, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        wanted = behaviour()
        request = ExportLogsServiceRequest()
        request.ParseFromString(body)
        records = [
            (resource, scope, record)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        bodies = [value_of(record.body) for _, _, record in records]
        refuse = wanted.get("refuse")
        if "status" in wanted:
            text = f"not now, {self.headers.get('authorization')}"
            if "code" in wanted:
                # google.rpc.Status: field 1, then field 2 with a length of two bytes.
                text = text.ljust(200, ".").encode()
                head = bytes([0x08, wanted["code"], 0x12, 0x80 | (len(text) & 0x7F), len(text) >> 7])
                return self.answer(wanted["status"], head + text, "application/x-protobuf")
            return self.answer(wanted["status"], text.encode(), "text/plain")
        if refuse is not None and any(refuse in text for text in bodies):
            return self.answer(400, b"a record is bad", "text/plain")
        reject = wanted.get("reject")
        response = ExportLogsServiceResponse()
        with open(out, "a", encoding="utf-8") as file:
            for (resource, scope, record), text in zip(records, bodies):
                if reject is not None and reject in text:
                    response.partial_success.rejected_log_records += 1
                    response.partial_success.error_message = "not that one"
                    continue
                file.write(json.dumps(self.line(resource, scope, record, text)) + "\n")
        return self.answer(200, response.SerializeToString(), "application/x-protobuf")

    def line(self, resource, scope, record, text):
        return {
            "path": self.path,
            "authorization": self.headers.get("authorization"),
            "contentType": self.headers.get("content-type"),
            "resource": {item.key: value_of(item.value) for item in resource.resource.attributes},
            "scope": MessageToDict(scope.scope),
            "timeUnixNano": str(record.time_unix_nano),
            "observedTimeUnixNano": str(record.observed_time_unix_nano),
            "severityNumber": record.severity_number,
            "severityText": record.severity_text,
            "eventName": record.event_name,
            "attributes": {item.key: value_of(item.value) for item in record.attributes},
            "body": text,
        }

    def answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"port {server.server_address[1]}", flush=True)
server.serve_forever()
