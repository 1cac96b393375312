"""A DNS server for one name with several addresses, and the gRPC service configuration that goes with it.

gRPC clients take their service configuration from DNS, as a TXT record `_grpc_config.NAME` (gRFC A2). So a client that
cannot be given one on its command line, such as ghz, does what clients/service-config.json says all the same.
UDP on loopback.
"""

import json
import socket
import struct
import threading

A, TXT = 1, 16
# What is left for it in an answer of 1,232 bytes, the most that resolvers take over UDP by default.
MOST_BYTES = 1100


class Names:
    """Answers for `name` while the program runs; `port` is where."""

    def __init__(self, name, addresses, service_config):
        self.name, self.addresses = name, addresses
        self.config = "grpc_config=" + json.dumps([{"serviceConfig": service_config}], separators=(",", ":"))
        if len(self.config) > MOST_BYTES:
            raise ValueError(f"a service configuration of {len(self.config)} bytes is more than a UDP answer holds")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            question, asker = self.socket.recvfrom(4096)
            self.socket.sendto(self.answer(question), asker)

    def answer(self, question):
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode())
            at += 1 + length
        (kind,) = struct.unpack_from("!H", question, at + 1)
        records = self.records(".".join(labels), kind)
        # A pointer to the name in the question, type, class IN, 60 s.
        packed = [struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data for data in records]
        answer = question[:2] + struct.pack("!HHHHH", 0x8580, 1, len(packed), 0, 0) + question[12 : at + 5]
        return answer + b"".join(packed)

    def records(self, name, kind):
        """There is nothing else, which is told as a name without such records."""
        if name.lower() == self.name and kind == A:
            return [socket.inet_aton(address) for address in self.addresses]
        if name.lower() == f"_grpc_config.{self.name}" and kind == TXT:
            said = self.config.encode()
            strings = [said[at : at + 255] for at in range(0, len(said), 255)]
            return [b"".join(bytes([len(string)]) + string for string in strings)]
        return []
