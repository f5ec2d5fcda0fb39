"""Counts what an endpoint answers to somebody whose address it has not seen proven.

Arguments: port, server name. Sends the first flight of an honest QUIC client and then nothing more,
as a forger would who never sees the answers. Prints the bytes sent and received as one line of JSON.
"""

import json
import socket
import sys
import time

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

port, name = int(sys.argv[1]), sys.argv[2]
address = ("127.0.0.1", port)
connection = QuicConnection(
    configuration=QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=name, verify_mode=0)
)
connection.connect(address, now=time.time())
flight = [data for data, _ in connection.datagrams_to_send(now=time.time())]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.connect(address)
    for data in flight:
        sock.send(data)
    received, count = 0, 0
    end = time.monotonic() + 4
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            received += len(sock.recv(65536))
            count += 1
        except TimeoutError:
            break
print(json.dumps({"sent": sum(map(len, flight)), "received": received, "packets": count}))
