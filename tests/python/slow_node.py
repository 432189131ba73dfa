"""A foreign node: grpcio with its default keep-alive rules, and a handler that takes three seconds.

    slow_node.py ADDRESS_FILE

It serves /foreign.v1.Slow/Ask, whose answer is the address that the call came from, and
grpc.health.v1.Health/Check, which always says SERVING. Messages are made by hand. It ends with SIGTERM.
"""
import concurrent.futures, json, os, signal, sys, time

import grpc

HANDLER_S = 3.0
# More than calls wait at the same moment: none waits for a thread.
THREADS = 64
# HealthCheckResponse { status = SERVING }
SERVING = b"\x08\x01"


def ask(request, context):
    time.sleep(HANDLER_S)
    return context.peer().encode()


def check(request, context):
    return SERVING


def handler(function):
    return grpc.unary_unary_rpc_method_handler(function, request_deserializer=bytes, response_serializer=bytes)


def main():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=THREADS))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("foreign.v1.Slow", {"Ask": handler(ask)}),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler(check)}),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(None))
    draft = sys.argv[1] + ".draft"
    with open(draft, "w") as file:
        json.dump({"address": f"127.0.0.1:{port}"}, file)
    os.rename(draft, sys.argv[1])
    server.wait_for_termination()


main()
