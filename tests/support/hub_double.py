"""A double of the Hugging Face Hub: real HTTP on loopback, spoken to by the real huggingface_hub.

It knows what a push and a download need: whoami, create_repo, model info, validate-yaml, preupload, the LFS batch and
uploads, commits, trees and files. Everything is in memory. Use with HF_ENDPOINT and HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

USER = "jane"
TOKEN = "hf_the-right-one"
READ_ONLY = "hf_only-reads"


class Hub:
    """The state of the double, and what it was asked for.

    Attributes:
        repos: by id: ``private``, ``gated``, ``files`` (content by name), ``commit``.
        blobs: uploaded large files by sha256.
        requests: (method, path) of every request.
        cut_after: large uploads that are let through before the connection is cut; None cuts nothing.
        trouble: status with which every request is answered; None for a healthy Hub.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.cut_after: int | None = None
        self.trouble: int | None = None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, repo: str, *, private: bool = True, gated: bool = False, **files: bytes) -> None:
        self.repos[repo] = {"private": private, "gated": gated, "files": files, "commit": "0" * 40}

    def uploads(self) -> list[str]:
        """sha256 of the large files that came, in their order."""
        return [path.rsplit("/", 1)[-1] for method, path in self.requests if method == "PUT"]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._serve("GET")

    def do_HEAD(self):
        self._serve("HEAD")

    def do_POST(self):
        self._serve("POST")

    def do_PUT(self):
        self._serve("PUT")

    def _serve(self, method):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((method, path))
        if method == "PUT" and self.hub.cut_after is not None:
            if self.hub.cut_after == 0:
                self.rfile.read(min(1000, int(self.headers["Content-Length"])))
                self.close_connection = True
                return self.connection.close()
            self.hub.cut_after -= 1
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.trouble is not None:
            return self._answer({"error": "trouble"}, self.hub.trouble)
        for verbs, pattern, name in _ROUTES:
            if method in verbs and (found := re.fullmatch(pattern, path)):
                return getattr(self, name)(*found.groups())
        return self._answer({"error": f"not in this double: {method} {path}"}, 501)

    # --- answers

    def _answer(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status, message, code=None):
        more = {"X_Error_Code": code} if code else {}
        self._answer({"error": message}, status, X_Error_Message=message, **more)

    def _token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _may_write(self, owner):
        if self._token() not in (TOKEN, READ_ONLY):
            self._refuse(401, "Invalid credentials in Authorization header")
        elif self._token() == READ_ONLY or owner != USER:
            self._refuse(403, f"You don't have the rights to create a model under the namespace {owner!r}")
        else:
            return True
        return False

    def _visible(self, repo):
        found = self.hub.repos.get(repo)
        if found is None or (found["private"] and self._token() not in (TOKEN, READ_ONLY)):
            self._refuse(404 if self._token() else 401, "Repository not found", "RepoNotFound")
            return None
        if found["gated"]:
            self._refuse(403, f"Access to model {repo} is restricted", "GatedRepo")
            return None
        return found

    # --- routes

    def whoami(self):
        if self._token() not in (TOKEN, READ_ONLY):
            return self._refuse(401, "Invalid credentials in Authorization header")
        return self._answer({"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})

    def create(self):
        asked = json.loads(self.body)
        owner = asked.get("organization") or USER
        repo = f"{owner}/{asked['name']}"
        if not self._may_write(owner):
            return None
        if repo in self.hub.repos:
            return self._refuse(409, "You already created this model repo")
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.add(repo, private=bool(private))
        return self._answer({"url": f"{self.hub.url}/{repo}", "name": repo})

    def validate(self):
        text = json.loads(self.body)["content"]
        found = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
        relations = ("adapter", "finetune", "merge", "quantized")
        wrong = [
            *(["base_model_relation"] if found.get("base_model_relation") not in (*relations, None) else []),
            *(["base_model"] if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(found.get("base_model"))) else []),
            *(["tags"] if not isinstance(found.get("tags"), list) else []),
        ]
        errors = [{"message": f"{name} is not valid"} for name in wrong]
        return self._answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def info(self, repo, revision=None):
        if found := self._visible(repo):
            siblings = [{"rfilename": name} for name in found["files"]]
            content = {
                "id": repo,
                "private": found["private"],
                "sha": found["commit"],
                "siblings": siblings,
                "tags": [],
            }
            self._answer(content)

    def tree(self, repo, revision):
        if found := self._visible(repo):
            rows = []
            for name, content in found["files"].items():
                rows.append({"type": "file", "path": name, "size": len(content), "oid": _oid(content)})
            self._answer(rows)

    def preupload(self, repo, revision):
        if self._visible(repo) and self._may_write(repo.split("/")[0]):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".gguf")) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(self.body)["files"]
            ]
            self._answer({"files": files})

    def batch(self, repo):
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            if wanted["oid"] not in self.hub.blobs:
                wanted["actions"] = {"upload": {"href": f"{self.hub.url}/blobs/{wanted['oid']}?signature=secret"}}
            objects.append(wanted)
        self._answer({"transfer": "basic", "objects": objects})

    def upload(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._refuse(400, "the digest differs")
        self.hub.blobs[oid] = self.body
        return self._answer({})

    def commit(self, repo, revision):
        found = self._visible(repo)
        if not found or not self._may_write(repo.split("/")[0]):
            return None
        new = {}
        for row in map(json.loads, self.body.splitlines()):
            value = row["value"]
            if row["key"] == "file":
                new[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                new[value["path"]] = self.hub.blobs[value["oid"]]
        found["files"] |= new
        found["commit"] = hashlib.sha1(self.body).hexdigest()
        url = f"{self.hub.url}/{repo}/commit/{found['commit']}"
        return self._answer({"success": True, "commitOid": found["commit"], "commitUrl": url})

    def resolve(self, repo, revision, name):
        if found := self._visible(repo):
            if name not in found["files"]:
                return self._refuse(404, "Entry not found", "EntryNotFound")
            content = found["files"][name]
            return self._answer(content, ETag=f'"{_oid(content)}"', X_Repo_Commit=found["commit"])
        return None


def _oid(content):
    return hashlib.sha1(content).hexdigest()


_REPO = r"([^/]+/[^/]+)"
_ROUTES = [
    (("GET",), "/api/whoami-v2", "whoami"),
    (("POST",), "/api/repos/create", "create"),
    (("POST",), "/api/validate-yaml", "validate"),
    (("GET",), f"/api/models/{_REPO}", "info"),
    (("GET",), f"/api/models/{_REPO}/revision/([^/]+)", "info"),
    (("GET",), f"/api/models/{_REPO}/tree/([^/]+)", "tree"),
    (("POST",), f"/api/models/{_REPO}/preupload/([^/]+)", "preupload"),
    (("POST",), f"/{_REPO}.git/info/lfs/objects/batch", "batch"),
    (("PUT",), "/blobs/([0-9a-f]+)", "upload"),
    (("POST",), f"/api/models/{_REPO}/commit/([^/]+)", "commit"),
    (("GET", "HEAD"), f"/{_REPO}/resolve/([^/]+)/(.+)", "resolve"),
]
