"""Keeps unary calls going through several gateways with retries switched off.

Reads orders from standard input: "proceed N" answers "proceeded" after N more calls, "stop" answers with
one JSON object. The messages are made by hand: field 1 is the region, field 2 the call id.
"""
import itertools, json, sys, threading

import grpc

THREADS = 16
CHANNELS = 4
REGION = 440100
OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # Made from a list of addresses the authority would hold a comma, and that is no authority (RFC 3986):
    # servers over the h2 crate reset such a stream.
    ("grpc.default_authority", "gateway.suiyue.test"),
]


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def message(call_id):
    text = call_id.encode()
    return b"\x08" + varint(REGION) + b"\x12" + varint(len(text)) + text


class Load:
    def __init__(self, target):
        self.ended = threading.Condition()
        self.calls, self.failures, self.stopping = 0, [], False
        self.numbers = itertools.count()
        channels = [grpc.insecure_channel(target, options=OPTIONS) for _ in range(CHANNELS)]
        stubs = [
            c.unary_unary("/suiyue.test.v1.EchoService/Unary", request_serializer=message, response_deserializer=bytes)
            for c in channels
        ]
        self.threads = [threading.Thread(target=self.call, args=(stubs[n % CHANNELS],)) for n in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def call(self, stub):
        while not self.stopping:
            failure = None
            try:
                stub(f"python-{next(self.numbers)}", timeout=20)
            except grpc.RpcError as error:
                failure = f"{error.code().name}: {error.details()}"
            with self.ended:
                self.calls += 1
                if failure:
                    self.failures.append(failure)
                self.ended.notify_all()

    def proceed(self, more):
        with self.ended:
            goal = self.calls + more
            self.ended.wait_for(lambda: self.calls >= goal)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        return {"calls": self.calls, "failed": len(self.failures), "failures": self.failures[:5]}


def main():
    load = Load("ipv4:" + ",".join(sys.argv[1:]))
    for line in sys.stdin:
        match line.split():
            case ["proceed", more]:
                load.proceed(int(more))
                print("proceeded", flush=True)
            case ["stop"]:
                print(json.dumps(load.stop()), flush=True)
                return
    load.stop()


main()
