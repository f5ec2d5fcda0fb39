"""A receiver of log records at a port: decodes each export with OpenTelemetry's own definitions, prints a line of JSON for
each record, and only then says that it has taken it.

With `-` instead of a port it reads standard input: exports as JSON, one a line, as files have them.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def tell(export, authorization):
    lines = []
    for of_resource in export.resource_logs:
        resource = attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                told = {
                    "authorization": authorization,
                    "resource": resource,
                    "scope": of_scope.scope.name,
                    "event": record.event_name,
                    "time": record.time_unix_nano,
                    "severity": record.severity_number,
                    "attributes": attributes(record.attributes),
                    "body": json.loads(record.body.string_value),
                }
                lines.append(json.dumps(told))
    if lines:
        print("\n".join(lines), flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/logs" and self.headers["content-type"] == "application/x-protobuf", self.path
        tell(ExportLogsServiceRequest.FromString(body), self.headers["authorization"])
        answer = ExportLogsServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


if sys.argv[1] == "-":
    for line in sys.stdin:
        tell(json_format.Parse(line, ExportLogsServiceRequest()), None)
else:
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()
