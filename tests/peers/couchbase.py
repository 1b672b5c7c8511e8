"""Couchbase as a peer: CouchbaseMock as our own child, key-value only.

Differences from a server: no named collections, no durability of the server's own, no SQL++, no TLS, no XDCR, no
transactions; everything is in memory; any password is taken; versions are small numbers; a node does not replicate.
What needs these is checked by ``wojak books doctor`` on the cluster of who has one.
"""

from __future__ import annotations

import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Final

import msgspec

from books.settings import CouchbaseSettings
from tests.peers.maven import require_jars, require_java
from tests.peers.process import Server, free_ports, require_program

JAR: Final = "com.couchbase.mock:CouchbaseMock:1.5.27"
START_S: Final = 60.0
# It asks the kernel to gather small answers, which stalls each batch for 40 ms; its sockets are told otherwise here.
_MAIN: Final = """
import com.couchbase.mock.*; import com.couchbase.mock.memcached.MemcachedServer; import java.util.*;
import java.lang.reflect.Field; import java.nio.channels.*;
public class MockMain { public static void main(String[] a) throws Exception {
  BucketConfiguration c = new BucketConfiguration();
  c.name = "default"; c.password = ""; c.hostname = "127.0.0.1"; c.numVBuckets = 64;
  c.bucketStartPort = Integer.parseInt(a[1]); c.numNodes = Integer.parseInt(a[2]);
  c.numReplicas = Integer.parseInt(a[3]); c.type = com.couchbase.mock.Bucket.BucketType.COUCHBASE;
  CouchbaseMock m = new CouchbaseMock(Integer.parseInt(a[0]), Collections.singletonList(c));
  m.start(); m.waitForStartup();
  List<Selector> selectors = new ArrayList<>();
  for (com.couchbase.mock.Bucket b : m.getBuckets().values())
    for (MemcachedServer s : b.getServers()) {
      s.setCccpEnabled(true);
      for (Field f : MemcachedServer.class.getDeclaredFields())
        if (Selector.class.isAssignableFrom(f.getType())) {
          f.setAccessible(true); selectors.add((Selector) f.get(s)); } }
  System.out.println("READY " + selectors.size()); System.out.flush();
  while (true) { Thread.sleep(20);
    for (Selector x : selectors) try {
      for (SelectionKey k : x.keys()) if (k.channel() instanceof SocketChannel)
        ((SocketChannel) k.channel()).socket().setTcpNoDelay(true);
    } catch (Exception e) { } } } }
"""


def prepare() -> Path:
    """Return the folder of the jar; get it if it is not in the cache."""
    return require_jars("couchbase-mock-1.5.27", JAR)


class CouchbaseMock:
    """One cluster; ``start`` again after ``kill`` has the same ports, and has forgotten everything."""

    def __init__(self, nodes: int = 1, replicas: int = 0) -> None:
        jars, java = prepare(), require_java()
        self.folder = Path(tempfile.mkdtemp(prefix="wojak-couchbase-"))
        self.http_port, self.port = free_ports(2)
        (self.folder / "MockMain.java").write_text(_MAIN)
        path = f"{self.folder}:{jars}/*"
        numbers = map(str, (self.http_port, self.port, nodes, replicas))
        # Java runs a source file itself, if it has a compiler.
        require_program("javac", "install it: apt-get install default-jdk-headless")
        argv = [java, "-Xmx512m", "-cp", path, str(self.folder / "MockMain.java"), *numbers]
        self.server = Server(argv, self.folder)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.server.start()
        self.server.wait_said("READY", START_S)

    def end(self) -> None:
        """Leave nothing running."""
        self.server.end()

    def settings(self, **changes: Any) -> CouchbaseSettings:
        """Return what the books need to be told to use it."""
        values = {
            "connection": f"couchbase://127.0.0.1:{self.port}", "bucket": "default", "username": "Administrator",
            "password": "password", "timeout_ms": 1_000, "connect_timeout_ms": 3_000,
        }  # fmt: skip
        return msgspec.convert({**values, **changes}, CouchbaseSettings)

    def ask(self, command: str) -> None:
        """Ask the mock for a fault: ``opfail?code=134&count=3``, ``hiccup?msecs=500&offset=2``."""
        url = f"http://127.0.0.1:{self.http_port}/mock/{command}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b'"status":"ok"' in answer.read().replace(b" ", b""), command
