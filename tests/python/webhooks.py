"""A receiver of webhooks: verifies each message with the specification's own library, and prints a line of JSON for it.

Lines of JSON on standard input say what it does: {"secret": "whsec_…"}, {"answer": 204}. Over TLS where it is given a certificate
and its key.
"""

import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

told = {"secret": None, "answer": 204}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = told["answer"]
        try:
            message = Webhook(told["secret"]).verify(body, headers)
            verified = True
        except WebhookVerificationError as error:
            message, verified = str(error), False
        line = {"verified": verified, "answer": answer, "id": headers.get("webhook-id"), "path": self.path, "message": message}
        print(json.dumps(line), flush=True)
        self.send_response(answer)
        if 300 <= answer < 400:
            self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self):
        print(json.dumps({"verified": False, "path": self.path, "method": "GET"}), flush=True)
        self.send_error(404)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        pass


def obey():
    for line in sys.stdin:
        told.update(json.loads(line))
        print(json.dumps({"told": sorted(json.loads(line))}), flush=True)


server = Server(("127.0.0.1", 0), Receiver)
if len(sys.argv) == 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    # The handshake is the thread's that serves, so that one that fails ends nobody else's.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(json.dumps({"port": server.server_address[1]}), flush=True)
threading.Thread(target=obey, daemon=True).start()
server.serve_forever()
