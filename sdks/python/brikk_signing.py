"""Signs requests to a Brikk gateway: HTTP Message Signatures (RFC 9421, hmac-sha256) with Content-Digest (RFC 9530).

One file, on the standard library and httpx2 or httpx, whichever the OpenAI package brings along; Python 3.9 or newer. Copy it
into your project.

    import openai
    from brikk_signing import BrikkSigning

    signing = BrikkSigning(key_id="bk_...", signing_secret=os.environ["BRIKK_SIGNING_SECRET"])
    client = openai.OpenAI(
        base_url="https://brikk.example.com/v1",
        api_key=os.environ["BRIKK_API_KEY"],
        http_client=openai.DefaultHttpxClient(auth=signing),
    )

With `openai.AsyncOpenAI` it is `openai.DefaultAsyncHttpxClient(auth=signing)`; the same object serves both, and any other client
of httpx. A signature is good for one request. One is made for each that is sent, so every retry is signed anew.
"""
import base64
import hashlib
import hmac
import importlib
import re
import secrets
import time

__all__ = ["BrikkSigning", "signature_headers"]

_SECRET = re.compile(r"brikk_sig_([0-9A-Za-z_-]{43})")


def _auth_classes():
    """A client takes what is of its own module's class, and a program may have both modules."""
    classes = []
    for name in ("httpx2", "httpx"):
        try:
            found = importlib.import_module(name).Auth
        except ImportError:
            continue
        if found not in classes:
            classes.append(found)
    if not classes:
        raise ImportError("brikk_signing needs httpx2 or httpx.")
    return classes


class BrikkSigning(*_auth_classes()):
    """What httpx calls `auth`. The body is read whole first, since its digest is signed."""

    requires_request_body = True

    def __init__(self, key_id, signing_secret, now=time.time):
        """`key_id` is the public id, `bk_` and 12 characters; `now` gives seconds since the epoch, where the machine's clock is wrong.

        Raises ValueError for a text that is no signing secret, without repeating it.
        """
        self._key_id = key_id
        self._hmac_key = _hmac_key(signing_secret)
        self._now = now

    def auth_flow(self, request):
        request.headers.update(
            signature_headers(
                method=request.method,
                target=request.url.raw_path,
                body=request.content,
                key_id=self._key_id,
                hmac_key=self._hmac_key,
                created=int(self._now()),
                nonce=secrets.token_urlsafe(18),
            )
        )
        yield request


def signature_headers(*, method, target, body, key_id, hmac_key, created, nonce):
    """The headers that make a request a signed one. `target` and `body` are the bytes that are sent; `nonce` is new for each request."""
    path, mark, query = target.decode("ascii").partition("?")
    components = [("@method", method), ("@path", path)]
    if mark:
        components.append(("@query", mark + query))
    headers = {}
    if body:
        headers["Content-Digest"] = f"sha-256=:{_base64(hashlib.sha256(body).digest())}:"
        components.append(("content-digest", headers["Content-Digest"]))
    covered = " ".join(f'"{name}"' for name, _ in components)
    parameters = f'({covered});created={created};nonce="{nonce}";keyid="{key_id}";alg="hmac-sha256"'
    base = "\n".join(f'"{name}": {value}' for name, value in [*components, ("@signature-params", parameters)])
    signature = hmac.new(hmac_key, base.encode("ascii"), hashlib.sha256).digest()
    return {**headers, "Signature-Input": f"brikk={parameters}", "Signature": f"brikk=:{_base64(signature)}:"}


def _hmac_key(signing_secret):
    match = _SECRET.fullmatch(signing_secret)
    if match is None:
        raise ValueError("The signing secret is not of the form brikk_sig_ and 43 characters; the API key is another secret.")
    return base64.urlsafe_b64decode(match.group(1) + "=")


def _base64(data):
    return base64.b64encode(data).decode("ascii")
