"""An HTTP/3 client for tests, on aioquic. It reads a plan as one line of JSON and writes one line of
JSON for each step.

The plan: `port`, `name` (asked for in the handshake), `ca`, maybe `cert` and `key`, and `steps`. A step
opens a stream:

- `headers`: the field section, a list of pairs; or `raw`: bytes of the stream in hexadecimal digits
- `data`: content, as text; `more`: the stream is not ended after it
- `datagrams`: payloads to send as HTTP Datagrams once the answer is there, as hexadecimal digits
- `say`: messages to send on the WebSocket that this stream becomes (RFC 9220), as text, once the answer
  is there; `close`: the code to close it with once as many messages are back
- `until`: what ends the step: `end` of the stream (default), `head`, or a count of datagrams or messages
- `hold`: wait on for the end of that earlier step's stream instead of opening one

Each line has `status`, `headers`, `body` (as text), `datagrams`, for a WebSocket `messages` and the
`close` code and `reason` that the other side said, `ended` when the stream ended in order, and `reset` or
`closed`: the code of the error that ended the stream or the connection. The last line has the number of session `tickets`.
"""

import asyncio
import json
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3Connection, Setting
from aioquic.h3.events import DataReceived, DatagramReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamReset
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage


class Http(H3Connection):
    def _get_local_settings(self):
        return {**super()._get_local_settings(), Setting.H3_DATAGRAM: 1}


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = Http(self._quic)
        self.streams = {}
        self.sockets = {}
        self.closed = None

    def queue(self, stream):
        return self.streams.setdefault(stream, asyncio.Queue())

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.closed = event
            for queue in self.streams.values():
                queue.put_nowait(event)
        elif isinstance(event, (StreamReset, StopSendingReceived)):
            self.queue(event.stream_id).put_nowait(event)
        for of_http in self.http.handle_event(event):
            self.queue(of_http.stream_id).put_nowait(of_http)


class Socket:
    """A WebSocket on a stream."""

    def __init__(self, client, stream):
        self.client, self.stream = client, stream
        self.frames = Connection(ConnectionType.CLIENT)
        self.text = ""

    def send(self, event, end=False):
        self.client.http.send_data(self.stream, self.frames.send(event), end)
        self.client.transmit()

    def receive(self, data, seen):
        self.frames.receive_data(data)
        for event in self.frames.events():
            if isinstance(event, TextMessage):
                self.text += event.data
                if event.message_finished:
                    seen["messages"].append(self.text)
                    self.text = ""
            elif isinstance(event, CloseConnection):
                seen["close"], seen["reason"] = event.code, event.reason
                # Which end began does not matter: the stream ends once both have said it.
                if not seen.get("closing"):
                    self.send(event.response(), True)
                else:
                    self.client.http.send_data(self.stream, b"", True)
                    self.client.transmit()


async def follow(client, stream, step, seen):
    until = step.get("until", "end")
    queue = client.queue(stream)
    if client.closed:
        queue.put_nowait(client.closed)
    sent = False
    while True:
        if seen["status"] and not sent:
            sent = True
            for payload in step.get("datagrams", []):
                client.http.send_datagram(stream, bytes.fromhex(payload))
            client.transmit()
            if "say" in step and seen["status"] == 200:
                socket = client.sockets[stream] = Socket(client, stream)
                for message in step["say"]:
                    socket.send(TextMessage(message))
        if "close" in step and "closing" not in seen and len(seen["messages"]) == len(step["say"]):
            seen["closing"] = True
            client.sockets[stream].send(CloseConnection(step["close"], "enough"))
        if until == "head" and seen["status"]:
            return
        if isinstance(until, int) and max(len(seen["datagrams"]), len(seen["messages"])) >= until:
            return
        event = await asyncio.wait_for(queue.get(), 60)
        if isinstance(event, HeadersReceived):
            fields = {name.decode(): value.decode() for name, value in event.headers}
            if seen["status"]:
                seen["trailers"] = fields
            else:
                seen["status"] = int(fields.pop(":status"))
                seen["headers"] = fields
            ended = event.stream_ended
        elif isinstance(event, DataReceived):
            if stream in client.sockets and event.data:
                client.sockets[stream].receive(event.data, seen)
            else:
                seen["body"] += event.data.decode("latin-1")
            ended = event.stream_ended
        elif isinstance(event, DatagramReceived):
            seen["datagrams"].append(event.data.hex())
            ended = False
        elif isinstance(event, StopSendingReceived):
            seen["stopped"] = event.error_code
            ended = False
        elif isinstance(event, StreamReset):
            seen["reset"] = event.error_code
            ended = True
        else:
            seen["closed"] = event.error_code
            ended = True
        if ended:
            seen["ended"] = "reset" not in seen and "closed" not in seen
            return


async def main():
    plan = json.loads(sys.stdin.readline())
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], max_datagram_frame_size=65536, server_name=plan["name"]
    )
    configuration.load_verify_locations(plan["ca"])
    if "cert" in plan:
        configuration.load_cert_chain(plan["cert"], plan["key"])
    streams, tickets = [], []
    async with connect(
        "127.0.0.1",
        plan["port"],
        configuration=configuration,
        create_protocol=Client,
        session_ticket_handler=tickets.append,
    ) as client:
        for step in plan["steps"]:
            seen = {"status": None, "headers": {}, "body": "", "datagrams": [], "messages": []}
            if "hold" in step:
                stream = streams[step["hold"]]
                seen["status"] = 0
            else:
                stream = client._quic.get_next_available_stream_id()
                client.queue(stream)
                data, more = step.get("data", "").encode(), step.get("more", "say" in step)
                if "raw" in step:
                    client._quic.send_stream_data(stream, bytes.fromhex(step["raw"]), not more)
                else:
                    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in step["headers"]]
                    client.http.send_headers(stream, pairs, not (data or more))
                    if data:
                        client.http.send_data(stream, data, not more)
                client.transmit()
            streams.append(stream)
            try:
                await follow(client, stream, step, seen)
            except asyncio.TimeoutError:
                seen["timeout"] = True
            print(json.dumps(seen), flush=True)
    print(json.dumps({"tickets": len(tickets)}), flush=True)


asyncio.run(main())
