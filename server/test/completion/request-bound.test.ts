import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { encode } from "gpt-tokenizer/encoding/o200k_base";
import { readCompletionRequest } from "../../src/completion/completion-request.ts";
import { boundRequest, tightenBound } from "../../src/completion/request-bound.ts";
import { BrikkError } from "../../src/errors.ts";
import { buildModelCatalogue } from "../../src/ledger/model-catalogue.ts";
import { createTokenCounter } from "../../src/ledger/token-count.ts";
import { parseJsonDocument } from "../../src/lib/json-document.ts";

const catalogue = buildModelCatalogue({ overrides: [], now: () => Date.UTC(2026, 10, 23) });
const find = (provider: string, name: string) => catalogue.find(provider, name)!;
const mini = find("openai", "gpt-4o-mini");
const large = find("openai", "gpt-4o");
const mistral = find("mistral", "mistral-small-latest");
const tokenCounter = createTokenCounter();
after(() => tokenCounter.close());

const chat = (body: object) =>
  readCompletionRequest(
    "chat",
    parseJsonDocument(Buffer.from(JSON.stringify({ model: "m", messages: [{ role: "user", content: "x" }], ...body }))),
  );
const content = (...parts: object[]) => chat({ messages: [{ role: "user", content: parts }] });

test("the input is bounded by its bytes: tools, schemas and all", () => {
  const request = chat({
    messages: [{ role: "user", content: "日本" }],
    tools: [{ type: "function", function: { name: "look", parameters: { type: "object" } } }],
    response_format: { type: "json_schema", json_schema: { name: "x", schema: {} } },
  });
  assert.equal(boundRequest(request).inputTokens(mini), request.document.bytes.length);
});

test("a picture counts as its vendor documents at most, and not by the bytes that it was sent in", () => {
  const url = `data:image/png;base64,${"A".repeat(300_000)}`;
  const here = boundRequest(content({ type: "text", text: "what?" }, { type: "image_url", image_url: { url } }));
  const there = boundRequest(content({ type: "image_url", image_url: "https://example.com/a.png" }));
  // platform.openai.com, "Images and vision": 8 tiles at most.
  for (const [model, most] of [
    [mini, 2_833 + 8 * 5_667],
    [large, 85 + 8 * 170],
    [mistral, 64 * 64 + 64],
  ] as const) {
    for (const bound of [here, there]) {
      assert.ok(bound.inputTokens(model) >= most, `${model.id}: ${bound.inputTokens(model)}`);
      assert.ok(bound.inputTokens(model) < most + 500, `${model.id}: ${bound.inputTokens(model)}`);
    }
  }
});

test("what cannot be bounded is refused, and the refusal names it", () => {
  const refused = (request: ReturnType<typeof chat>, param: string): void => {
    assert.throws(
      () => boundRequest(request),
      (error) => error instanceof BrikkError && error.code === "invalid_request" && error.extras.param === param,
    );
  };
  refused(
    content({ type: "text", text: "read" }, { type: "file", file: { file_id: "f" } }),
    "messages[0].content[1].type",
  );
  refused(content({ type: "document_url", document_url: "https://example.com/a.pdf" }), "messages[0].content[0].type");
  refused(
    content({ type: "video_url", video_url: { url: "https://example.com/a.mp4" } }),
    "messages[0].content[0].type",
  );
  refused(chat({ tools: [{ type: "function", function: { name: "a" } }, { type: "web_search" }] }), "tools[1].type");
  refused(chat({ web_search_options: {} }), "web_search_options");
  refused(chat({ messages: [{ role: "assistant", content: null, audio: { id: "audio_1" } }] }), "messages[0].audio");
  boundRequest(content({ type: "input_audio", input_audio: { data: "AAAA", format: "wav" } }));
});

test("the output is bounded by the caller's limit, else by the model's, times the choices; a rejected prediction is billed on top", () => {
  const bound = boundRequest(
    chat({ n: 3, max_completion_tokens: 20, prediction: { type: "content", content: "y".repeat(90) } }),
  );
  assert.deepEqual([bound.outputTokens(mini), bound.choices], [20, 3]);
  assert.ok(bound.extraOutputTokens >= 90);
  assert.equal(boundRequest(chat({})).outputTokens(mini), 16_384);
  const embedding = readCompletionRequest("embeddings", parseJsonDocument(Buffer.from('{"model":"m","input":"x"}')));
  assert.equal(boundRequest(embedding).outputTokens(mini), 0);
});

test("the counted bound is lower than the bytes and never below what the model reads", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(fc.lorem({ maxCount: 80 }), fc.string({ unit: "grapheme" }), fc.constant("潮が満ちる。".repeat(20))),
        { maxLength: 12 },
      ),
      async (texts) => {
        const request = chat({ messages: texts.map((text) => ({ role: "user", content: text })) });
        const bound = boundRequest(request);
        const tight = await tightenBound(request, bound, [mini, mistral], tokenCounter);
        // What OpenAI's cookbook adds: three for each message, one for its role, three for the answer's start.
        const read = texts.reduce((sum, text) => sum + encode(text, { disallowedSpecial: new Set() }).length + 4, 3);
        assert.ok(tight.inputTokens(mini) >= read);
        assert.ok(tight.inputTokens(mini) <= bound.inputTokens(mini));
        // Its encoding is not known here, so the bytes stay.
        assert.equal(tight.inputTokens(mistral), bound.inputTokens(mistral));
      },
    ),
    { numRuns: 60 },
  );
  const long = chat({ messages: [{ role: "user", content: "The tide comes in twice a day. ".repeat(400) }] });
  const bound = boundRequest(long);
  const tight = await tightenBound(long, bound, [mini], tokenCounter);
  assert.ok(tight.inputTokens(mini) * 3 < bound.inputTokens(mini), String(tight.inputTokens(mini)));
});

test("a text that is too much to count keeps the bound of its bytes", async () => {
  const request = chat({ messages: [{ role: "user", content: "a".repeat(3_000_000) }] });
  const bound = boundRequest(request);
  assert.equal(await tightenBound(request, bound, [mini], tokenCounter), bound);
});

test("a tool's property that is named like a picture is read by the model and counted", async () => {
  const description = "The address of the picture that is to be described. ".repeat(200);
  const request = chat({
    tools: [
      {
        type: "function",
        function: { name: "look", parameters: { properties: { image_url: { type: "string", description } } } },
      },
    ],
  });
  const tight = await tightenBound(request, boundRequest(request), [mini], tokenCounter);
  assert.ok(tight.inputTokens(mini) >= encode(description).length, String(tight.inputTokens(mini)));
});
