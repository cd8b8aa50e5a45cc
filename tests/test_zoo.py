"Downloads from a server that misbehaves: lines that break, other files, no server at all."
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from paintsr_nb.nets import zoo
from paintsr_nb.nets.foreign import load_model
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.weights import save_model
from paintsr_nb.nets.zoo import ZOO, ZooModel, fetch, zoo_folder


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        server.asked.append(self.headers.get("Range"))
        if server.status: return self.send_error(server.status)
        if server.knows_range and server.asked[-1]: start = int(server.asked[-1].removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if server.tells_length: self.send_header("Content-Length", len(server.content) - start)
        self.end_headers()
        self.wfile.write(server.content[start:start + server.cut])

    def log_message(self, *words): pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.status, server.knows_range, server.tells_length, server.cut = [], None, True, True, 10**9
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(server, tmp_path, monkeypatch):
    "A small model of ours on the server, known to the zoo as `tiny`."
    monkeypatch.setenv("PAINTSR_CACHE", str(tmp_path/"cache"))
    save_model(tmp_path/"tiny.safetensors", make_generator("compact", num_filters=8, num_blocks=2))
    server.content = (tmp_path/"tiny.safetensors").read_bytes()
    entry = ZooModel(f"http://127.0.0.1:{server.server_port}/tiny.safetensors", hashlib.sha256(server.content).hexdigest(),
                     len(server.content), "CC0-1.0", "for tests")
    monkeypatch.setitem(ZOO, "tiny", entry)
    return entry


def files(): return sorted(path.name for path in zoo_folder().iterdir()) if zoo_folder().is_dir() else []


def test_a_model_is_fetched_once_and_loads_by_its_name(server, model):
    assert load_model("tiny").card["file"] == "tiny.safetensors"
    load_model("tiny")
    assert server.asked == [None] and files() == ["tiny.safetensors"]


def test_a_broken_line_is_taken_up_where_it_broke(server, model):
    server.cut = len(server.content)//2 - 100
    assert fetch("tiny").read_bytes() == server.content
    assert server.asked == [None, f"bytes={server.cut}-", f"bytes={2*server.cut}-"]


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_line_that_breaks_too_often_is_taken_up_by_the_next_call(server, model, tells_length):
    server.cut, server.tells_length = len(server.content)//8, tells_length
    with pytest.raises(ConnectionError, match=rf"broke off after {3*server.cut:,} of {model.size:,} bytes: they are kept"): fetch("tiny")
    assert files() == ["tiny.safetensors.part"]
    server.cut = 10**9
    assert fetch("tiny").read_bytes() == server.content
    assert server.asked[-1] == f"bytes={len(server.content)//8*3}-" and files() == ["tiny.safetensors"]


def test_a_server_that_cannot_go_on_begins_anew(server, model):
    server.knows_range = False
    zoo_folder().mkdir(parents=True)
    (zoo_folder()/"tiny.safetensors.part").write_bytes(b"x"*100)
    assert fetch("tiny").read_bytes() == server.content


@pytest.mark.parametrize("change", [lambda content: content[:-1] + b"x", lambda content: content + b"more", lambda content: b"<html>" + content])
def test_another_file_is_refused_and_nothing_kept(server, model, change):
    server.content = change(server.content)
    with pytest.raises(ValueError, match="tiny.safetensors gave another file than tiny stands for.*it was deleted"): fetch("tiny")
    assert files() == []


def test_an_endless_answer_is_cut(server, model, monkeypatch):
    server.content, server.tells_length = bytes(5*10**6), False
    written, original = [], zoo._sha256
    monkeypatch.setattr(zoo, "_sha256", lambda path: (written.append(path.stat().st_size), original(path))[1])
    with pytest.raises(ValueError, match="another file"): fetch("tiny")
    assert max(written) <= model.size + 2**18 and files() == []


def test_a_rest_that_is_not_its_own_is_refused_and_nothing_kept(server, model):
    zoo_folder().mkdir(parents=True)
    (zoo_folder()/"tiny.safetensors.part").write_bytes(b"x"*100)
    with pytest.raises(ValueError, match="another file"): fetch("tiny")
    assert files() == []
    assert fetch("tiny").read_bytes() == server.content


@pytest.mark.parametrize("status", [404, 500, 416])
def test_an_answer_that_is_none_says_where_to_get_the_file(server, model, status):
    server.status = status
    with pytest.raises(ConnectionError, match=rf"HTTP {status}.*put it there as tiny.safetensors \(its SHA-256 is {model.sha256}"): fetch("tiny")
    assert files() == []


def test_offline_says_what_to_do(server, model):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match="tiny is not in .*go online for this once, or fetch the file elsewhere and put it there"): load_model("tiny")
    zoo_folder().mkdir(parents=True, exist_ok=True)
    (zoo_folder()/"tiny.safetensors").write_bytes(server.content)
    assert load_model("tiny").card["file"] == "tiny.safetensors"


def test_a_changed_file_in_the_cache_is_not_used(server, model):
    fetch("tiny").write_bytes(b"x")
    with pytest.raises(ValueError, match="tiny.safetensors is not the file that tiny stands for.*delete it"): load_model("tiny")


def test_a_path_comes_before_the_zoo(server, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path/"tiny"/"model.safetensors", make_generator("compact", num_filters=4, num_blocks=1))
    assert load_model("tiny").arguments["num_filters"] == 4 and not server.asked
