import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { addUsage, inputTokens, NO_USAGE, readWireUsage, totalTokens, type Usage } from "../../src/ledger/usage.ts";

const usage = (part: Partial<Usage>): Usage => ({ ...NO_USAGE, ...part });

test("OpenAI's chat usage is split so that no token stands in two kinds", () => {
  const wire = {
    prompt_tokens: 1000,
    completion_tokens: 300,
    total_tokens: 1300,
    prompt_tokens_details: { cached_tokens: 600, audio_tokens: 50, cache_write_tokens: 100 },
    completion_tokens_details: { reasoning_tokens: 128, audio_tokens: 40, accepted_prediction_tokens: 9 },
  };
  assert.deepEqual(readWireUsage(wire), {
    freshInputTokens: 250,
    cachedInputTokens: 600,
    cacheWriteTokens: 100,
    audioInputTokens: 50,
    outputTokens: 260,
    reasoningTokens: 128,
    audioOutputTokens: 40,
  });
});

test("an embedding's usage has no completion, and costs no output", () => {
  assert.deepEqual(readWireUsage({ prompt_tokens: 8, total_tokens: 8 }), usage({ freshInputTokens: 8 }));
  assert.deepEqual(readWireUsage({ prompt_tokens: 8 }), usage({ freshInputTokens: 8 }));
});

test("a completion that is only told by the total still counts", () => {
  assert.deepEqual(
    readWireUsage({ prompt_tokens: 8, completion_tokens: null, total_tokens: 20 }),
    usage({ freshInputTokens: 8, outputTokens: 12 }),
  );
});

test("Mistral's cached tokens count, in each place where they are sent", () => {
  const expected = usage({ freshInputTokens: 4, cachedInputTokens: 96, outputTokens: 7 });
  const wire = { prompt_tokens: 100, completion_tokens: 7, total_tokens: 107 };
  assert.deepEqual(readWireUsage({ ...wire, num_cached_tokens: 96 }), expected);
  assert.deepEqual(readWireUsage({ ...wire, prompt_tokens_details: { cached_tokens: 96 } }), expected);
  assert.deepEqual(
    readWireUsage({ ...wire, prompt_tokens_details: null, prompt_token_details: { cached_tokens: 96 } }),
    expected,
  );
  assert.deepEqual(readWireUsage({ ...wire, num_cached_tokens: 96, prompt_audio_seconds: null }), expected);
});

test("audio that a vendor reports in seconds, outside the prompt, is not lost", () => {
  assert.deepEqual(
    readWireUsage({ prompt_audio_seconds: 203, prompt_tokens: 4, completion_tokens: 677, total_tokens: 3264 }),
    usage({ freshInputTokens: 4, audioInputTokens: 2583, outputTokens: 677 }),
  );
});

test("reasoning that a vendor counts outside the completion is billed as output, and a bare surplus is not", () => {
  const wire = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 115 };
  assert.deepEqual(
    readWireUsage({ ...wire, completion_tokens_details: { reasoning_tokens: 100 } }),
    usage({ freshInputTokens: 10, outputTokens: 105, reasoningTokens: 100 }),
  );
  assert.deepEqual(readWireUsage(wire), usage({ freshInputTokens: 10, outputTokens: 5 }));
});

test("what cannot be billed by is refused rather than guessed", () => {
  const absurd = [-1, 1.5, 1e9 + 1, Number.NaN, "12", {}, true];
  for (const wire of [undefined, null, "usage", 12, [], {}, { completion_tokens: 4 }])
    assert.equal(readWireUsage(wire), undefined);
  for (const figure of absurd) {
    assert.equal(
      readWireUsage({ prompt_tokens: figure, completion_tokens: 1 }),
      undefined,
      `prompt ${JSON.stringify(figure)}`,
    );
    assert.equal(
      readWireUsage({ prompt_tokens: 1, completion_tokens: figure }),
      undefined,
      `completion ${JSON.stringify(figure)}`,
    );
  }
});

test("a broken detail costs the detail, not the bill", () => {
  for (const cached of [-5, 0.5, "all", null]) {
    assert.deepEqual(
      readWireUsage({ prompt_tokens: 10, completion_tokens: 1, prompt_tokens_details: { cached_tokens: cached } }),
      usage({ freshInputTokens: 10, outputTokens: 1 }),
    );
  }
});

const figure = fc.nat(5000);
const details = fc.record(
  { cached_tokens: figure, audio_tokens: figure, cache_write_tokens: figure, reasoning_tokens: figure },
  { requiredKeys: [] },
);

test("the kinds are never negative and add up to prompt + completion, whatever the details claim", () => {
  fc.assert(
    fc.property(figure, figure, details, details, (prompt, completion, input, output) => {
      const read = readWireUsage({
        prompt_tokens: prompt,
        completion_tokens: completion,
        total_tokens: prompt + completion,
        prompt_tokens_details: input,
        completion_tokens_details: output,
      });
      assert.ok(read);
      assert.ok(Object.values(read).every((tokens) => Number.isInteger(tokens) && tokens >= 0));
      assert.ok(read.reasoningTokens <= read.outputTokens);
      assert.equal(inputTokens(read), prompt);
      assert.equal(read.outputTokens + read.audioOutputTokens, completion);
      assert.equal(totalTokens(read), prompt + completion);
    }),
  );
});

test("no answer of a provider makes reading throw, and none yields fewer tokens than it names", () => {
  const wire = fc.record(
    {
      prompt_tokens: fc.oneof(figure, fc.anything()),
      completion_tokens: fc.oneof(figure, fc.anything()),
      total_tokens: fc.oneof(figure, fc.anything()),
      prompt_audio_seconds: fc.oneof(figure, fc.anything()),
      num_cached_tokens: fc.oneof(figure, fc.anything()),
      prompt_tokens_details: fc.oneof(details, fc.anything()),
      completion_tokens_details: fc.oneof(details, fc.anything()),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(wire, fc.anything()), (value) => {
      const read = readWireUsage(value);
      if (!read) return;
      const { prompt_tokens: prompt, completion_tokens: completion } = value as Record<string, number | undefined>;
      assert.ok(totalTokens(read) >= (prompt ?? 0) + (completion ?? 0));
    }),
  );
});

test("adding usages adds every kind", () => {
  const kinds: fc.Arbitrary<Usage> = fc.record({
    freshInputTokens: figure,
    cachedInputTokens: figure,
    cacheWriteTokens: figure,
    audioInputTokens: figure,
    outputTokens: figure,
    reasoningTokens: figure,
    audioOutputTokens: figure,
  });
  fc.assert(
    fc.property(kinds, kinds, (a, b) => {
      const sum = addUsage(a, b);
      for (const kind of Object.keys(NO_USAGE) as (keyof Usage)[]) assert.equal(sum[kind] - a[kind], b[kind]);
      assert.deepEqual(addUsage(a, NO_USAGE), { ...a });
    }),
  );
});
