"""A node for a region, in Python with grpcio: registers, answers, passes `suiyue node verify`.

    python -m grpc_tools.protoc -Iproto --python_out=stubs --grpc_python_out=stubs proto/suiyue/v1/*.proto
    PYTHONPATH=stubs python deploy/examples/python-node/node.py --region 610100 --name xian-py \\
        --listen 127.0.0.1:9301 --join 127.0.0.1:8441 --token TOKEN --holders holders.jsonl

Its codes are its own: a prefix, random bytes and an HMAC that nobody else can make.
"""
import argparse, collections, hashlib, hmac, json, queue, secrets, signal, threading, time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from suiyue.v1 import codes_pb2 as codes, codes_pb2_grpc, registry_pb2 as registry, registry_pb2_grpc
from suiyue.v1 import served_pb2, status_pb2 as status, status_pb2_grpc

PREFIX, TTL, SKEW, KEPT = "PY1:", 60, 30, 1_000_000
LEVELS = {"green": codes.LEVEL_GREEN, "yellow": codes.LEVEL_YELLOW, "red": codes.LEVEL_RED}
VERDICTS = {  # by level: verdict, reasons, Chinese, English
    codes.LEVEL_GREEN: (codes.VERDICT_PASS, [], "请通行：绿码", "Pass: green"),
    codes.LEVEL_YELLOW: (codes.VERDICT_CAUTION, [codes.VERDICT_REASON_LEVEL_YELLOW], "请核查：黄码", "Check: yellow"),
    codes.LEVEL_RED: (codes.VERDICT_DENY, [codes.VERDICT_REASON_LEVEL_RED], "禁止通行：红码", "Stop: red"),
}


def arguments():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--name", "--listen", "--holders"):
        parse.add_argument(flag, required=True)
    parse.add_argument("--region", type=int, required=True)
    parse.add_argument("--join", default="", help="control address of a gateway; none: it is used alone")
    parse.add_argument("--token", default="")
    parse.add_argument("--address-file", default="")
    return parse.parse_args()


class Node(codes_pb2_grpc.CodeServiceServicer, status_pb2_grpc.StatusServiceServicer):
    def __init__(self, region, name, holders):
        self.region, self.name, self.secret, self.shown = region, name, secrets.token_bytes(32), collections.OrderedDict()
        with open(holders, encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        self.levels = {bytes.fromhex(row["subject"]): LEVELS[row["level"]] for row in rows if row["region"] == region}

    def admit(self, request, context):
        """The region, in the metadata and in field 1, must be ours."""
        routed = dict(context.invocation_metadata()).get("suiyue-region", str(request.region))
        if not request.region or routed != str(request.region):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no region, or the metadata names another one")
        if request.region != self.region:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this node does not answer for the region")
        if not self.levels:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no holders are loaded")

    def level(self, request, context):
        if len(request.subject) != 16:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a subject has 16 bytes")
        self.admit(request, context)
        if request.subject not in self.levels:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such holder, or not for you")
        return self.levels[request.subject]

    def served(self):
        return served_pb2.Served(region=self.region, node=self.name, role=served_pb2.ROLE_CITY,
                                 as_of_unix_ms=int(time.time() * 1000), freshness=served_pb2.FRESHNESS_AUTHORITATIVE)

    def mac(self, body):
        return hmac.new(self.secret, f"{self.region}:{body}".encode(), hashlib.sha256).hexdigest()[:32]

    def ShowCode(self, request, context):
        level, now, body = self.level(request, context), int(time.time()), secrets.token_hex(16)
        self.shown[body] = (request.subject, now)
        if len(self.shown) > KEPT:
            self.shown.popitem(last=False)
        return codes.ShowCodeResponse(served=self.served(), code=f"{PREFIX}{body}{self.mac(body)}", ttl_s=TTL,
                                      refresh_after_s=TTL // 2, level=level, issued_unix_s=now)

    def judge(self, text):
        body, mac = text[len(PREFIX):][:32], text[len(PREFIX):][32:]
        if not text.startswith(PREFIX) or not hmac.compare_digest(mac.encode(), self.mac(body).encode()):
            return codes.CodeResult(verdict=codes.VERDICT_DENY, reasons=[codes.VERDICT_REASON_SIGNATURE_INVALID],
                                    text_zh="禁止通行：无效的码", text_en="Stop: not a valid code")
        subject, issued = self.shown.get(body, (b"", 0))
        if time.time() > issued + TTL + SKEW:
            return codes.CodeResult(verdict=codes.VERDICT_UNKNOWN, reasons=[codes.VERDICT_REASON_CODE_EXPIRED],
                                    text_zh="码已过期，请刷新后重试", text_en="Expired: ask for a fresh code")
        level = self.levels[subject]
        verdict, reasons, zh, en = VERDICTS[level]
        return codes.CodeResult(verdict=verdict, reasons=reasons, level=level, issued_unix_s=issued,
                                expires_unix_s=issued + TTL, text_zh=zh, text_en=en)

    def check(self, request, texts, context):
        if len(request.request_id) != 16 or not 1 <= len(texts) <= 100:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a request id of 16 bytes, and 1 to 100 codes")
        self.admit(request, context)
        if any(t.startswith("SY1:") and not t.startswith(f"SY1:{self.region}:") for t in texts):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a code of another region")
        return [self.judge(text) for text in texts]

    def VerifyCode(self, request, context):
        (result,) = self.check(request, [request.code], context)
        return codes.VerifyCodeResponse(served=self.served(), result=result)

    def VerifyBatch(self, request, context):
        return codes.VerifyBatchResponse(served=self.served(), results=self.check(request, request.codes, context))

    def GetStatus(self, request, context):
        return status.GetStatusResponse(served=self.served(), status=status.Status(level=self.level(request, context)))


def register(options, address, leaving, gone):
    """Keeps one stream to the registrar: hello, a heartbeat every few seconds, at the end a goodbye."""
    while not gone.is_set():
        said = queue.Queue()
        ready = registry.RegionReady(region=options.region, as_of_unix_ms=int(time.time() * 1000))
        report, me = registry.Report(ready=[ready]), registry.Manifest(
            region=options.region, node=options.name, role=served_pb2.ROLE_CITY, scopes=[options.region], code_prefixes=[PREFIX])
        said.put(registry.RegisterRequest(hello=registry.Hello(
            manifest=me, endpoint=f"{options.name}-1", address=address, incarnation=secrets.randbits(63), report=report)))

        def beat():
            while not leaving.wait(3):
                said.put(registry.RegisterRequest(report=report))
            said.put(registry.RegisterRequest(goodbye=registry.Goodbye()))
        try:
            with grpc.insecure_channel(options.join) as channel:
                bearer = [("authorization", f"Bearer {options.token}")]
                heard = registry_pb2_grpc.RegistryServiceStub(channel).Register(iter(said.get, None), metadata=bearer)
                threading.Thread(target=beat, daemon=True).start()
                for answer in heard:
                    if answer.HasField("farewell"):
                        return gone.set()
        except grpc.RpcError as error:
            print(f"not registered: {error.code()} {error.details()}", flush=True)
        gone.wait(1)
        if leaving.is_set():
            gone.set()


def main():
    options = arguments()
    node, healthy = Node(options.region, options.name, options.holders), health.HealthServicer()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    codes_pb2_grpc.add_CodeServiceServicer_to_server(node, server)
    status_pb2_grpc.add_StatusServiceServicer_to_server(node, server)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    services = ["suiyue.v1.CodeService", "suiyue.v1.StatusService", health.SERVICE_NAME, reflection.SERVICE_NAME]
    info = grpc.stream_stream_rpc_method_handler(  # v1, whose messages are those of v1alpha
        reflection.ReflectionServicer(services).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString, reflection_pb2.ServerReflectionResponse.SerializeToString)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
        "grpc.reflection.v1.ServerReflection", {"ServerReflectionInfo": info})])
    host, _, port = options.listen.rpartition(":")
    address = f"{host}:{server.add_insecure_port(options.listen)}"
    state = health_pb2.HealthCheckResponse.SERVING if node.levels else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", f"suiyue.region.{options.region}"):
        healthy.set(service, state)
    server.start()
    leaving, gone = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    if options.join:
        threading.Thread(target=register, args=(options, address, leaving, gone), daemon=True).start()
    if options.address_file:
        with open(options.address_file, "w", encoding="utf-8") as file:
            json.dump({"address": address}, file)
    leaving.wait()
    healthy.enter_graceful_shutdown()
    gone.wait(3 if options.join else 0)
    time.sleep(1)  # gateways that learn of the goodbye late still send calls
    server.stop(10).wait()


if __name__ == "__main__":
    main()
