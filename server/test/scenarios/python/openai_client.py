"""Calls a Brikk gateway with Python's `openai` package as it is published, and prints what it saw as one JSON object."""
import json
import os
import urllib.request

import openai

BASE_URL = os.environ["BRIKK_URL"] + "/v1"
KEY = os.environ["BRIKK_KEY"]
MODEL = "gpt-4o-mini"
QUESTION = [{"role": "user", "content": "Why is the sky blue, and the sea too?"}]
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def client_with(key):
    return openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0)


client = client_with(KEY)


def set_fault(fault):
    rule = {"vendor": "openai", "count": 1, "fault": fault}
    body = json.dumps(rule).encode()
    request = urllib.request.Request(os.environ["SIMULATOR_URL"] + "/control/faults", body, {"content-type": "application/json"})
    urllib.request.urlopen(request).read()


def ask(using=client, **fields):
    return using.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "seed": 7, **fields})


def error_of(call):
    """The class and the facts of the error that a call ends with; None when it ends well."""
    try:
        call()
    except openai.APIError as error:
        response = getattr(error, "response", None)
        return {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": error.code,
            "retry_after": response.headers.get("retry-after") if response is not None else None,
        }
    return None


def plain():
    answer = ask()
    return {"text": answer.choices[0].message.content, "finish": answer.choices[0].finish_reason, "completion_tokens": answer.usage.completion_tokens}


def streamed():
    text, empty, usage = "", 0, None
    for chunk in ask(stream=True, stream_options={"include_usage": True}):
        if not chunk.choices:
            empty += 1
            usage = chunk.usage
        else:
            text += chunk.choices[0].delta.content or ""
    return {"text": text, "empty": empty, "completion_tokens": usage.completion_tokens, "cost_usd": usage.cost_usd}


def streamed_without_usage():
    return {"empty": sum(1 for chunk in ask(stream=True) if not chunk.choices)}


def tools():
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    asked = ask(messages=messages, tools=[WEATHER_TOOL])
    call = asked.choices[0].message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    answered = ask(messages=[*messages, asked.choices[0].message, result], tools=[WEATHER_TOOL])
    return {"name": call.function.name, "arguments": json.loads(call.function.arguments), "finish": answered.choices[0].finish_reason}


def embeddings():
    answer = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    return {"count": len(answer.data), "length": len(answer.data[0].embedding), "first": answer.data[0].embedding[0]}


def models():
    model = next(model for model in client.models.list() if model.id == MODEL)
    return {"owned_by": model.owned_by, "context_length": model.context_length, "input_price": model.price["input_usd_per_million"]}


def cut_stream():
    set_fault({"kind": "cut", "afterTokens": 6})
    seen = {"text": "", "finish": None}

    def read():
        for chunk in ask(stream=True):
            seen["text"] += chunk.choices[0].delta.content or ""
            seen["finish"] = chunk.choices[0].finish_reason or seen["finish"]

    error = error_of(read)
    return {**seen, "error": error}


def errors():
    limited = client_with(os.environ["BRIKK_LIMITED_KEY"])
    ask(limited)
    limit = error_of(lambda: ask(limited))
    set_fault({"kind": "status", "status": 500})
    failed = error_of(ask)
    return {
        "400": error_of(lambda: ask(temperature=3)),
        "401": error_of(lambda: ask(client_with(KEY[:-1] + ("1" if KEY[-1] == "0" else "0")))),
        "402": error_of(lambda: ask(client_with(os.environ["BRIKK_POOR_KEY"]))),
        "404": error_of(lambda: ask(model="no-such-model")),
        "429": limit,
        "502": failed,
    }


steps = [plain, streamed, streamed_without_usage, tools, embeddings, models, cut_stream, errors]
print(json.dumps({step.__name__: step() for step in steps}))
