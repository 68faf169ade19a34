"""Signs requests with sdks/python/brikk_signing.py under the `openai` package as it is published, and prints what it saw as JSON."""
import asyncio
import json
import os
import sys

import openai
from brikk_signing import BrikkSigning, signature_headers

BASE_URL = os.environ["BRIKK_URL"] + "/v1"
KEY = os.environ["BRIKK_KEY"]
QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello \N{SNOWMAN}"}], "seed": 7}

signing = BrikkSigning(key_id=os.environ["BRIKK_KEY_ID"], signing_secret=os.environ["BRIKK_SIGNING_SECRET"])
client = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, http_client=openai.DefaultHttpxClient(auth=signing))


def reason_of(call):
    try:
        call()
    except openai.AuthenticationError as error:
        return error.body["details"]["reason"]
    return None


async def asynchronous():
    async with openai.AsyncOpenAI(
        base_url=BASE_URL, api_key=KEY, max_retries=0, http_client=openai.DefaultAsyncHttpxClient(auth=signing)
    ) as other:
        return (await other.chat.completions.create(**QUESTION)).choices[0].message.content


def malformed_secret():
    try:
        BrikkSigning(key_id="bk_", signing_secret=KEY)
    except ValueError as error:
        return KEY in str(error)
    return None


example = json.loads(sys.argv[1])
json.dump(
    {
        "plain": client.chat.completions.create(**QUESTION).choices[0].message.content,
        "streamed": "".join(
            chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**QUESTION, stream=True) if chunk.choices
        ),
        "models": len(client.models.list(extra_query={"limit": 5, "after": "a b/\N{SNOWMAN}?"}).data),
        "asynchronous": asyncio.run(asynchronous()),
        "unsigned": reason_of(openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0).models.list),
        "secret_in_error": malformed_secret(),
        "example": signature_headers(
            method="POST",
            target=b"/v1/chat/completions",
            body=example["body"].encode(),
            key_id=example["key_id"],
            hmac_key=bytes.fromhex(example["hmac_key"]),
            created=example["created"],
            nonce=example["nonce"],
        ),
    },
    sys.stdout,
)
