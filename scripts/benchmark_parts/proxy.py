"""A TCP proxy that counts: bytes both ways, connections, and requests, of HTTP/1.1 (Consul) and gRPC (etcd)."""
import asyncio
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA = 0


class Requests:
    """Counts the requests in what a client sends, piece by piece."""

    def __init__(self):
        self.pending = b""
        self.skip = 0
        self.is_grpc = None
        self.lines = []

    def feed(self, piece):
        """The first lines of the requests that begin in this piece; a message of gRPC is an empty line."""
        found = []
        self.pending += piece
        if self.is_grpc is None:
            if len(self.pending) < len(PREFACE) and PREFACE.startswith(self.pending):
                return found
            self.is_grpc = self.pending.startswith(PREFACE)
            self.pending = self.pending[len(PREFACE):] if self.is_grpc else self.pending
        while True:
            gone = min(self.skip, len(self.pending))
            self.pending, self.skip = self.pending[gone:], self.skip - gone
            line = None if self.skip else self.next_frame() if self.is_grpc else self.next_head()
            if line is None:
                return found
            found += [line] if line is not False else []

    def next_head(self):
        """Takes the head of one HTTP request; its first line, or nothing while it is not complete."""
        end = self.pending.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *fields = self.pending[:end].decode("latin-1").split("\r\n")
        for field in fields:
            name, _, value = field.partition(":")
            if name.lower() == "content-length":
                self.skip = int(value)
            elif name.lower() == "transfer-encoding":
                raise ValueError(f"cannot count requests with {field}")
        self.pending = self.pending[end + 4:]
        return first.rsplit(" ", 1)[0]

    def next_frame(self):
        """Takes the head of one HTTP/2 frame: an empty line for a message, False for anything else."""
        if len(self.pending) < 9:
            return None
        length, kind = int.from_bytes(self.pending[:3], "big"), self.pending[3]
        self.pending, self.skip = self.pending[9:], length
        return "" if kind == DATA and length else False


class Count:
    """What has gone through so far."""

    def __init__(self, requests=0, sent=0, received=0, connections=0):
        self.requests, self.sent, self.received, self.connections = requests, sent, received, connections

    @property
    def bytes(self):
        return self.sent + self.received

    def __sub__(self, other):
        return Count(self.requests - other.requests, self.sent - other.sent, self.received - other.received,
                     self.connections - other.connections)


class Proxy:
    """Listens on a free port, and hands everything on to `target`, in a thread of its own."""

    def __init__(self, target):
        self.host, port = target.rsplit(":", 1)
        self.port = int(port)
        self.total = Count()
        self.lines = []
        self.error = None
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=[ready], daemon=True)
        self.thread.start()
        ready.wait()

    def run(self, ready):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=2000))
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        server.close()
        self.loop.run_until_complete(asyncio.sleep(0.05))
        self.loop.close()

    async def serve(self, reader, writer):
        self.total.connections += 1
        try:
            there_reader, there = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.close()
            return
        requests = Requests()

        def sent(piece):
            self.total.sent += len(piece)
            try:
                lines = requests.feed(piece)
            except ValueError as error:
                self.error = self.error or error
                return
            self.total.requests += len(lines)
            self.lines += lines

        def received(piece):
            self.total.received += len(piece)

        await asyncio.gather(hand_on(reader, there, sent), hand_on(there_reader, writer, received))

    def count(self):
        """What has gone through until now."""
        if self.error:
            raise self.error
        return Count(self.total.requests, self.total.sent, self.total.received, self.total.connections)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


async def hand_on(reader, writer, tell):
    """Until either end closes; then closes the writer, so that the other direction ends, too."""
    try:
        while piece := await reader.read(65536):
            tell(piece)
            writer.write(piece)
            await writer.drain()
    except (OSError, asyncio.CancelledError):
        pass
    finally:
        writer.close()
